// Pictures of the study's prompts: a drawn face for each, lines only, in the page's colours.

const SPACE = "http://www.w3.org/2000/svg";

// Brows: heights of the outer and inner ends (of the right one too, where it differs). Eyes: half their height.
// Mouth: paths, closed ones are open mouths. More: lines that show what a drawing of features alone would not.
const FACES = {
  neutral: { brows: [63, 61], eyes: 8, mouth: ["M76 143H124"] },
  delighted: { brows: [57, 56], eyes: 5, mouth: ["M64 130Q100 140 136 130Q128 170 100 170Q72 170 64 130Z"], more: ["M50 100Q60 108 72 103", "M150 100Q140 108 128 103"] },
  happy: { brows: [62, 60], eyes: 7, mouth: ["M70 136Q100 160 130 136"], more: ["M62 128Q66 132 66 139", "M138 128Q134 132 134 139"] },
  miserable: { brows: [73, 52], eyes: 4, mouth: ["M68 157Q100 122 132 157"], more: ["M90 56Q92 50 90 44", "M110 56Q108 50 110 44", "M60 102Q54 114 60 118Q66 114 60 102Z"] },
  sad: { brows: [68, 56], eyes: 6, mouth: ["M76 149Q100 136 124 149"] },
  surprised: { brows: [47, 44], eyes: 13, mouth: ["M100 128Q117 128 117 149Q117 170 100 170Q83 170 83 149Q83 128 100 128Z"], more: ["M75 36Q100 31 125 36"] },
  angry: { brows: [57, 74], eyes: 6, mouth: ["M74 147Q100 137 126 147"], more: ["M95 70V58", "M105 70V58", "M80 157Q100 153 120 157"] },
  afraid: { brows: [58, 45], eyes: 13, mouth: ["M62 144Q100 134 138 144Q100 162 62 144Z"], more: ["M78 38Q100 43 122 38"] },
  disgusted: { brows: [65, 71], eyes: 4, mouth: ["M72 152Q82 130 100 137Q118 130 128 152Q100 143 72 152Z"], more: ["M90 94Q95 98 90 103", "M110 94Q105 98 110 103", "M78 126Q80 116 88 112", "M122 126Q120 116 112 112"] },
  contemptuous: { brows: [63, 61, 60, 54], eyes: 7, mouth: ["M74 146Q106 148 127 133"], more: ["M131 126Q136 131 133 138"] },
};

/** The drawing of a prompt; `label` says what it shows. */
export function drawPrompt(id, label) {
  const { brows, eyes, mouth, more = [] } = FACES[id];
  const picture = node("svg", { viewBox: "14 4 172 192", class: "drawing", role: "img", "aria-label": label });
  const [outer, inner, outerRight = outer, innerRight = inner] = brows;
  picture.append(
    node("ellipse", { cx: 100, cy: 100, rx: 74, ry: 90, class: "face" }),
    node("path", { d: `M52 ${outer}Q66 ${Math.min(outer, inner) - 6} 86 ${inner}`, class: "brow" }),
    node("path", { d: `M148 ${outerRight}Q134 ${Math.min(outerRight, innerRight) - 6} 114 ${innerRight}`, class: "brow" }),
    node("path", { d: "M100 88Q94 112 93 117Q100 122 107 117" }),
    ...mouth.map((path) => node("path", { d: path, class: path.endsWith("Z") ? "mouth" : "" })),
    ...more.map((path) => node("path", { d: path, class: "fine" })),
  );
  for (const x of [70, 130]) {
    picture.append(
      node("ellipse", { cx: x, cy: 85, rx: 14, ry: eyes, class: "eye" }),
      node("circle", { cx: x, cy: 85, r: Math.min(5.5, eyes), class: "pupil" }),
    );
  }
  return picture;
}

function node(tag, attributes) {
  const made = document.createElementNS(SPACE, tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
