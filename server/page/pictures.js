// Looks at pictures before they are sent, and makes small copies of them.

import { Problem } from "./api.js";
import { bytes } from "./format.js";

const FORMATS = "JPEG, PNG, WebP, GIF, AVIF, TIFF or BMP";
const BEGINNINGS = /^(\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF[^]{4}WEBP|[^]{4}ftyp(avi|mif1|ms|mia)|II[*+]\0|MM\0[*+]|BM)/;
const SMALL = 480; // pixels wide

/** What a tier takes, in words. */
export function allowed(limits) {
  return `${FORMATS}, each up to ${bytes(limits.image_bytes)} and ${megapixels(limits.image_pixels)}`;
}

/** The width of a picture in pixels; 0 where the browser cannot tell, as the server may. Throws Problem. */
export async function inspect(file, limits) {
  const refuse = (code, detail) => {
    throw new Problem(code, detail);
  };
  const most = (has, limit) => `It has ${has}; this tier takes up to ${limit}.`;
  if (!file.size) refuse("image_empty", "There is nothing in it.");
  if (file.size > limits.image_bytes) refuse("too_many_bytes", most(bytes(file.size), bytes(limits.image_bytes)));
  const head = await file.slice(0, 12).arrayBuffer().catch(() => refuse("unreadable", "The browser cannot read the file any more."));
  if (!BEGINNINGS.test(String.fromCharCode(...new Uint8Array(head)))) refuse("image_unsupported", `Only ${FORMATS} can be.`);
  const { naturalWidth: width, naturalHeight: height } = await load(file);
  if (width * height > limits.image_pixels) {
    refuse("image_too_large", most(`${width} × ${height} pixels, ${megapixels(width * height)}`, megapixels(limits.image_pixels)));
  }
  return width;
}

// A browser knows the size of a picture that is loaded, and decodes it only to show it.
function load(file) {
  const image = new Image();
  return new Promise((resolve) => {
    image.onload = image.onerror = () => {
      URL.revokeObjectURL(image.src);
      resolve(image);
    };
    image.src = URL.createObjectURL(file);
  });
}

function megapixels(pixels) {
  return `${Number((pixels / 1e6).toFixed(1))} megapixels`;
}

let last = Promise.resolve("");

/** The URL of a small copy, which the caller revokes; empty if there is none. One at a time: decoded, they are large. */
export function thumbnail(file, width) {
  last = last.then(() => width && shrink(file, width)).catch(() => "");
  return last;
}

async function shrink(file, width) {
  const bitmap = await createImageBitmap(file, width > SMALL ? { resizeWidth: SMALL, resizeQuality: "medium" } : {});
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  bitmap.close();
  return URL.createObjectURL(await canvas.convertToBlob({ type: "image/webp" }));
}
