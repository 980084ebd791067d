// The picture with its boxes: what the camera sees, or a photo, and outlines around the faces in it.

import { byId, colour, fitCanvas } from "./dom.js";

const MAX_PHOTO_SIDE = 1600; // a phone's photo has 12 megapixels, and a face in it enough at this size

/** Shows the stage as "empty", "camera" or "photo". A camera's picture is mirrored, as people know themselves. */
export function setStage(kind) {
  byId("stage").dataset.kind = kind;
  byId("video").hidden = kind !== "camera";
  byId("photo").hidden = kind !== "photo";
  byId("stage-empty").hidden = kind !== "empty";
  if (kind === "empty") fitCanvas(byId("overlay"));
}

/** Draws the boxes of a result: the largest face and the square that is read, outlines of the others. */
export function drawFaces({ faces, square, width, height }) {
  const { context, width: wide, height: high } = fitCanvas(byId("overlay"));
  const factor = Math.min(wide / width, high / height);
  context.translate((wide - width * factor) / 2, (high - height * factor) / 2);
  faces.forEach((face, place) => {
    context.lineWidth = place === 0 ? 3 : 1.5;
    context.setLineDash(place === 0 ? [] : [6, 5]);
    context.strokeStyle = place === 0 ? colour("frame") : colour("frame-other");
    const box = place === 0 && square ? { x: square.left, y: square.top, width: square.side, height: square.side } : face;
    context.beginPath();
    context.roundRect(box.x * factor, box.y * factor, box.width * factor, box.height * factor, 8);
    context.stroke();
  });
  context.setLineDash([]);
}

/** Shows a picked photo, and gives its picture, upright and not larger than needed. Rejects what is no picture. */
export async function showPhoto(file) {
  const whole = await createImageBitmap(file);
  const factor = Math.min(1, MAX_PHOTO_SIDE / Math.max(whole.width, whole.height));
  const canvas = byId("photo");
  canvas.width = Math.max(1, Math.round(whole.width * factor));
  canvas.height = Math.max(1, Math.round(whole.height * factor));
  canvas.getContext("2d").drawImage(whole, 0, 0, canvas.width, canvas.height);
  whole.close();
  setStage("photo");
  return createImageBitmap(canvas);
}
