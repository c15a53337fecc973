// Looks at a picture before it is sent: its format by its first bytes, and its size as the browser sees it.

import { Problem } from "./api.js";
import { bytes } from "./format.js";

const FORMATS = "JPEG, PNG, WebP or GIF";
const BEGINNINGS = /^(\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF[^]{4}WEBP)/;

/** What a tier takes, in words. */
export function allowed(limits) {
  return `${FORMATS}, each up to ${bytes(limits.image_bytes)} and ${megapixels(limits.image_pixels)}`;
}

/** `{width, height}` in pixels; 0 where the browser cannot tell, as the server may. Throws Problem. */
export async function inspect(file, limits) {
  const most = `; this tier takes up to`;
  if (!file.size) throw new Problem("image_empty", "There is nothing in it.");
  if (file.size > limits.image_bytes) {
    throw new Problem("too_many_bytes", `It has ${bytes(file.size)}${most} ${bytes(limits.image_bytes)}.`);
  }
  if (!BEGINNINGS.test(await beginning(file))) throw new Problem("image_unsupported", `Only ${FORMATS} can be.`);
  const { width, height } = await measure(file);
  if (width * height > limits.image_pixels) {
    const size = `${width} × ${height} pixels, ${megapixels(width * height)}`;
    throw new Problem("image_too_large", `It has ${size}${most} ${megapixels(limits.image_pixels)}.`);
  }
  return { width, height };
}

async function beginning(file) {
  try {
    return String.fromCharCode(...new Uint8Array(await file.slice(0, 12).arrayBuffer()));
  } catch {
    throw new Problem("unreadable", "The browser cannot read the file any more. Choose it again.");
  }
}

// A browser knows the size of a picture that is loaded, and decodes it only to show it.
function measure(file) {
  const image = new Image();
  return new Promise((resolve) => {
    image.onload = image.onerror = () => {
      URL.revokeObjectURL(image.src);
      resolve({ width: image.naturalWidth, height: image.naturalHeight });
    };
    image.src = URL.createObjectURL(file);
  });
}

function megapixels(pixels) {
  return `${Number((pixels / 1e6).toFixed(1))} megapixels`;
}
