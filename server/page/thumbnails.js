// Makes small copies of pictures for their cards, two at a time, as a browser would keep the large ones decoded.

const WIDTH = 480;
const AT_ONCE = 2;
const waiting = [];
let busy = 0;

/** The URL of a small copy, which the caller revokes; empty if the browser cannot show the picture. */
export function thumbnail(file, size) {
  return new Promise((resolve) => {
    waiting.push({ file, size, resolve });
    next();
  });
}

function next() {
  if (busy >= AT_ONCE || !waiting.length) return;
  const { file, size, resolve } = waiting.shift();
  busy += 1;
  make(file, size).catch(() => "").then((url) => {
    busy -= 1;
    resolve(url);
    next();
  });
}

async function make(file, { width }) {
  const options = width > WIDTH ? { resizeWidth: WIDTH, resizeQuality: "medium" } : {};
  const bitmap = await createImageBitmap(file, options);
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  bitmap.close();
  return URL.createObjectURL(await canvas.convertToBlob({ type: "image/webp", quality: 0.85 }));
}
