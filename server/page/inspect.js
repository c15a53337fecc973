// Reads what the head of a picture says: its format and its size, as the server will, before anything is sent.

import { Problem } from "./api.js";
import { bytes, count } from "./format.js";

const FORMATS = "JPEG, PNG, WebP or GIF";
const HEAD = 64 * 1024;
const MOST_SEGMENTS = 1000;

/** What a tier takes, in words. */
export function allowed(limits) {
  const size = bytes(limits.image_bytes, true);
  return `${FORMATS}, each up to ${size} and ${count(limits.image_pixels / 1e6)} megapixels`;
}

/** `{format, width, height}` of a picture, without a size where its head does not tell one. Throws Problem. */
export async function inspect(file, limits) {
  if (file.size === 0) throw new Problem("image_empty", "The file is empty.");
  if (file.size > limits.image_bytes) {
    const most = bytes(limits.image_bytes, true);
    throw new Problem("too_many_bytes", `It has ${bytes(file.size, true)}. This tier takes pictures of up to ${most}.`);
  }
  const found = await measure(file);
  if (!found) throw new Problem("image_unsupported", `It is no ${FORMATS}. Save it as one of these and send it again.`);
  if (found.width * found.height > limits.image_pixels) {
    const size = `${count(found.width)} × ${count(found.height)}`;
    const [has, most] = [found.width * found.height, limits.image_pixels].map((n) => (n / 1e6).toFixed(1));
    throw new Problem("image_too_large", `It has ${size} pixels, which is ${has} megapixels. This tier takes up to ${most}.`);
  }
  return found;
}

async function measure(file) {
  const head = await read(file, 0, HEAD);
  const text = (at, length) => String.fromCharCode(...new Uint8Array(head.buffer, at, Math.min(length, head.byteLength - at)));
  if (head.byteLength < 12) return null;
  if (text(0, 3) === "\xff\xd8\xff") return { format: "JPEG", ...(await jpegSize(file)) };
  if (text(0, 8) === "\x89PNG\r\n\x1a\n") return sized("PNG", head, 24, () => [head.getUint32(16), head.getUint32(20)]);
  if (/^GIF8[79]a/.test(text(0, 6))) return sized("GIF", head, 10, () => [head.getUint16(6, true), head.getUint16(8, true)]);
  if (text(0, 4) === "RIFF" && text(8, 4) === "WEBP") return sized("WebP", head, 30, () => webpSize(head, text(12, 4)));
  return null;
}

function sized(format, head, needed, size) {
  if (head.byteLength < needed) return { format };
  const [width, height] = size();
  return { format, width, height };
}

function webpSize(head, chunk) {
  const uint24 = (at) => head.getUint16(at, true) | (head.getUint8(at + 2) << 16);
  if (chunk === "VP8X") return [uint24(24) + 1, uint24(27) + 1];
  if (chunk === "VP8L") {
    const bits = head.getUint32(21, true);
    return [(bits & 0x3fff) + 1, ((bits >>> 14) & 0x3fff) + 1];
  }
  return [head.getUint16(26, true) & 0x3fff, head.getUint16(28, true) & 0x3fff];
}

// The size of a JPEG stands in its frame header, behind any number of segments with metadata.
async function jpegSize(file) {
  let at = 2;
  for (let segments = 0; segments < MOST_SEGMENTS; segments += 1) {
    const part = await read(file, at, 10);
    if (part.byteLength < 10 || part.getUint8(0) !== 0xff) return {};
    const marker = part.getUint8(1);
    if (marker === 0xff) at += 1; // a fill byte
    else if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      return { width: part.getUint16(7), height: part.getUint16(5) };
    } else if (marker === 0xd9 || marker === 0xda) return {};
    else at += 2 + part.getUint16(2);
  }
  return {};
}

async function read(file, start, length) {
  try {
    return new DataView(await file.slice(start, start + length).arrayBuffer());
  } catch {
    throw new Problem("unreadable", "The browser cannot read this file any more. Choose it again.");
  }
}
