// From a face box to the square the network sees: `place_square` and `cut_square` of data/faces/crop.py, number for number.

/** Python's round: halves go to the even neighbour. */
export function roundHalfEven(value) {
  const rounded = Math.round(value);
  return Math.abs(value % 1) === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

/**
 * The upright square around a face box {x, y, width, height} (pixels, upper left corner), `margin` of its longer side
 * wider at each end.
 */
export function placeSquare(box, margin) {
  const side = Math.max(2, roundHalfEven(Math.max(box.width, box.height) * (1 + 2 * margin)));
  const left = roundHalfEven(box.x + box.width / 2 - side / 2);
  const top = roundHalfEven(box.y + box.height / 2 - side / 2);
  return { left, top, side };
}

/**
 * Cuts a square out of RGBA pixels and resizes it to planes of red, green and blue, float32 [3, size, size], 0..255.
 * Shrinking averages over areas, enlarging is bilinear, and border pixels go on outside the image.
 *
 * `pixels` are those of the part {left, top, width, height} of the image, at least what the square shares with it.
 */
export function cutSquare(pixels, part, square, size) {
  const taps = square.side >= size ? areaTaps(square.side, size) : linearTaps(square.side, size);
  const columns = clampTaps(taps, square.left - part.left, part.width);
  const rows = clampTaps(taps, square.top - part.top, part.height);
  const first = Math.min(...rows.starts);
  const last = Math.max(...rows.ends);
  const narrow = new Float32Array((last - first) * size * 3);
  for (let y = first; y < last; y++) shrinkRow(pixels, y * part.width * 4, columns, narrow, (y - first) * size * 3);
  return mixRows(narrow, rows, first, size);
}

function shrinkRow(pixels, start, columns, target, at) {
  for (let x = 0; x < columns.starts.length; x++) {
    let red = 0;
    let green = 0;
    let blue = 0;
    const { indexes, weights } = columns.taps[x];
    for (let tap = 0; tap < indexes.length; tap++) {
      const place = start + indexes[tap] * 4;
      const weight = weights[tap];
      red += weight * pixels[place];
      green += weight * pixels[place + 1];
      blue += weight * pixels[place + 2];
    }
    target[at++] = red;
    target[at++] = green;
    target[at++] = blue;
  }
}

function mixRows(narrow, rows, first, size) {
  const result = new Float32Array(3 * size * size);
  for (let y = 0; y < size; y++) {
    const { indexes, weights } = rows.taps[y];
    for (let x = 0; x < size; x++) {
      for (let channel = 0; channel < 3; channel++) {
        let sum = 0;
        for (let tap = 0; tap < indexes.length; tap++) {
          sum += weights[tap] * narrow[((indexes[tap] - first) * size + x) * 3 + channel];
        }
        result[(channel * size + y) * size + x] = Math.min(255, Math.max(0, Math.round(sum)));
      }
    }
  }
  return result;
}

/** For each target pixel the source pixels it covers, and the share of each. */
function areaTaps(from, to) {
  const step = from / to;
  return Array.from({ length: to }, (_, place) => {
    const indexes = [];
    const weights = [];
    for (let index = Math.floor(place * step); index < Math.min(from, (place + 1) * step - 1e-9); index++) {
      indexes.push(index);
      weights.push((Math.min(index + 1, (place + 1) * step) - Math.max(index, place * step)) / step);
    }
    return { indexes, weights };
  });
}

/** For each target pixel the two source pixels around its centre. */
function linearTaps(from, to) {
  return Array.from({ length: to }, (_, place) => {
    const centre = ((place + 0.5) * from) / to - 0.5;
    const low = Math.floor(centre);
    const share = centre - low;
    const inside = (index) => Math.min(from - 1, Math.max(0, index));
    return { indexes: [inside(low), inside(low + 1)], weights: [1 - share, share] };
  });
}

function clampTaps(taps, offset, length) {
  const clamped = taps.map(({ indexes, weights }) => ({
    indexes: indexes.map((index) => Math.min(length - 1, Math.max(0, index + offset))),
    weights,
  }));
  return {
    taps: clamped,
    starts: clamped.map(({ indexes }) => Math.min(...indexes)),
    ends: clamped.map(({ indexes }) => Math.max(...indexes) + 1),
  };
}
