// Makes small copies of pictures, two at a time: a browser would keep all the large ones decoded.

const WIDTH = 480; // pixels
const AT_ONCE = 2;
const waiting = [];
let busy = 0;

/** The URL of a small copy, which the caller revokes; empty if the browser cannot show the picture. */
export function thumbnail(file, { width }) {
  return new Promise((resolve) => {
    waiting.push({ file, width, resolve });
    next();
  });
}

async function next() {
  if (busy >= AT_ONCE || !waiting.length) return;
  const { file, width, resolve } = waiting.shift();
  busy += 1;
  resolve(width && (await make(file, width).catch(() => "")));
  busy -= 1;
  next();
}

async function make(file, width) {
  const bitmap = await createImageBitmap(file, width > WIDTH ? { resizeWidth: WIDTH, resizeQuality: "medium" } : {});
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  bitmap.close();
  return URL.createObjectURL(await canvas.convertToBlob({ type: "image/webp" }));
}
