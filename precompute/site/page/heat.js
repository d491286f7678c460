// Draw where the evidence for a training picture lies: attribution/looks/regions.py's map and blend, in the browser.

const COLOURS = [[20, 11, 53], [133, 33, 107], [207, 68, 70], [245, 125, 21], [252, 225, 80]]; // ever lighter
const OPACITY = 0.85;

// Read a file of maps: {row -> question -> Float64Array [height * width]}.
export function decodeMaps(data, about) {
  const view = new DataView(data), names = Object.keys(about.steps), each = about.grid[0] * about.grid[1];
  const wanted = about.mapped * (2 + names.length * each);
  if (data.byteLength !== wanted) throw new Error(`the maps have ${data.byteLength} bytes, not ${wanted}`);
  const codes = new Int8Array(data, 2 * about.mapped), found = new Map();
  for (let place = 0; place < about.mapped; place++) {
    found.set(view.getUint16(2 * place, true), Object.fromEntries(names.map((name, n) => {
      const first = (place * names.length + n) * each;
      return [name, Float64Array.from(codes.subarray(first, first + each), (code) => code * about.steps[name])];
    })));
  }
  return found;
}

// Mix a row's maps; the whole picture's, where it has none of its own, is the mean of its questions'. Null for no mix.
export function mixedMap(maps, amounts, whole) {
  const names = Object.keys(maps), share = whole in maps ? 0 : (amounts[whole] ?? 0) / names.length;
  const parts = names.map((name) => (amounts[name] ?? 0) + share), total = parts.reduce((a, b) => a + b, 0);
  if (!(total > 0)) return null;
  return maps[names[0]].map((_, cell) => names.reduce((sum, name, n) => sum + (parts[n] / total) * maps[name][cell], 0));
}

// Paint evidence over a grey picture, the more, the lighter; evidence against is left out. An example is all that its model sees.
export function paint(canvas, picture, map, [height, width]) {
  const wide = canvas.width = picture.naturalWidth, high = canvas.height = picture.naturalHeight;
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0);
  const pixels = context.getImageData(0, 0, wide, high), most = Math.max(...map, 1e-12);
  const amount = (row, column) => Math.max(map[row * width + column], 0) / most;
  for (let y = 0; y < high; y++) {
    const [top, bottom, down] = between(y, high, height);
    for (let x = 0; x < wide; x++) {
      const [before, after, along] = between(x, wide, width);
      const upper = amount(top, before) * (1 - along) + amount(top, after) * along;
      const lower = amount(bottom, before) * (1 - along) + amount(bottom, after) * along;
      tint(pixels.data, 4 * (y * wide + x), upper * (1 - down) + lower * down);
    }
  }
  context.putImageData(pixels, 0, 0);
}

// The two cells beside a pixel, and how far it is from the first.
function between(pixel, side, cells) {
  const at = Math.min(Math.max(((pixel + 0.5) * cells) / side - 0.5, 0), cells - 1), low = Math.floor(at);
  return [low, Math.min(low + 1, cells - 1), at - low];
}

function tint(data, at, amount) {
  const grey = (299 * data[at] + 587 * data[at + 1] + 114 * data[at + 2]) / 1000;
  const place = amount * (COLOURS.length - 1), low = Math.min(Math.floor(place), COLOURS.length - 2);
  for (let channel = 0; channel < 3; channel++) {
    const colour = COLOURS[low][channel] + (place - low) * (COLOURS[low + 1][channel] - COLOURS[low][channel]);
    data[at + channel] = grey + (colour - grey) * amount * OPACITY;
  }
}
