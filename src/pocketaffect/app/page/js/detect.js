// Face boxes from BlazeFace's 896 anchors: threshold, then the weighted suppression of overlaps that MediaPipe uses.

export const DETECTOR_SIZE = 128;
const LEAST_SCORE = 0.5;
const LEAST_OVERLAP = 0.3;

/** Shares of its sides by which a picture is widened at each end, one after the other until a face is found. */
export const BORDERS = [0, 0.25];

/**
 * Where an image of this shape lies in the detector's square, centred with bars beside it: factor and offsets. With a
 * border, it lies smaller, so that it can go on around itself by that share of its sides.
 */
export function letterbox(width, height, border = 0) {
  const factor = DETECTOR_SIZE / (Math.max(width, height) * (1 + 2 * border));
  return {
    factor,
    left: (DETECTOR_SIZE - width * factor) / 2,
    top: (DETECTOR_SIZE - height * factor) / 2,
  };
}

/**
 * The parts of an image to draw in the detector's square, as arguments of drawImage: the image itself, and around it its
 * edges, stretched over the border.
 */
export function spread(width, height, frame, border) {
  if (!border) return [[0, 0, width, height, frame.left, frame.top, width * frame.factor, height * frame.factor]];
  const [across, down] = [
    [width, frame.left],
    [height, frame.top],
  ].map(([side, start]) => {
    const long = side * frame.factor;
    const beside = long * border;
    return [
      [0, 1, start - beside, beside],
      [0, side, start, long],
      [side - 1, 1, start + long, beside],
    ];
  });
  return down.flatMap(([y, high, top, tall]) =>
    across.map(([x, wide, left, broad]) => [x, y, wide, high, left, top, broad, tall]),
  );
}

/** Float32 [1, 3, 128, 128] from RGBA bytes of 128 x 128. */
export function toPlanes(rgba) {
  const area = DETECTOR_SIZE * DETECTOR_SIZE;
  const planes = new Float32Array(3 * area);
  for (let place = 0; place < area; place++) {
    planes[place] = rgba[4 * place];
    planes[area + place] = rgba[4 * place + 1];
    planes[2 * area + place] = rgba[4 * place + 2];
  }
  return planes;
}

/**
 * Faces as {x, y, width, height, score} in the image's pixels, the largest first.
 *
 * `scores` [896] and `boxes` [896 * 4] are the detector's outputs, `frame` what `letterbox` gave.
 */
export function decodeFaces(scores, boxes, frame) {
  const candidates = [];
  for (let place = 0; place < scores.length; place++) {
    if (scores[place] < LEAST_SCORE) continue;
    const [x, y, width, height] = boxes.slice(4 * place, 4 * place + 4);
    if (!(width > 0 && height > 0)) continue;
    candidates.push({ x: x - width / 2, y: y - height / 2, width, height, score: scores[place] });
  }
  return mergeOverlaps(candidates)
    .map((box) => ({
      x: (box.x * DETECTOR_SIZE - frame.left) / frame.factor,
      y: (box.y * DETECTOR_SIZE - frame.top) / frame.factor,
      width: (box.width * DETECTOR_SIZE) / frame.factor,
      height: (box.height * DETECTOR_SIZE) / frame.factor,
      score: box.score,
    }))
    .sort((one, other) => other.width * other.height - one.width * one.height);
}

function mergeOverlaps(candidates) {
  const left = [...candidates].sort((one, other) => other.score - one.score);
  const merged = [];
  while (left.length) {
    const best = left[0];
    const group = left.filter((box) => overlap(best, box) > LEAST_OVERLAP);
    const total = group.reduce((sum, box) => sum + box.score, 0);
    const mean = (key) => group.reduce((sum, box) => sum + box[key] * box.score, 0) / total;
    merged.push({ x: mean("x"), y: mean("y"), width: mean("width"), height: mean("height"), score: best.score });
    for (const box of group) left.splice(left.indexOf(box), 1);
  }
  return merged;
}

/** Intersection over union. */
function overlap(one, other) {
  const width = Math.min(one.x + one.width, other.x + other.width) - Math.max(one.x, other.x);
  const height = Math.min(one.y + one.height, other.y + other.height) - Math.max(one.y, other.y);
  if (width <= 0 || height <= 0) return 0;
  const shared = width * height;
  return shared / (one.width * one.height + other.width * other.height - shared);
}
