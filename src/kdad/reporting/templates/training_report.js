const page = JSON.parse(document.getElementById("data").textContent), images = page.images;
const by = id => document.getElementById(id);
const make = (name, text, of = {}) => Object.assign(document.createElement(name), { textContent: text }, of);
const short = value => String(Number(value.toPrecision(4)));
const percent = rate => Number.isNaN(rate) ? "-" : `${(100 * rate).toFixed(1)} %`;
images.forEach((image, place) => { image.place = place; });
const anomalous = images.filter(image => image.label), normal = images.filter(image => !image.label);
const isAbove = (image, cut) => image.score > cut;
const intervalOf = (isAnomalous, count) => page.intervals[Number(isAnomalous)][count];
const countAbove = (some, cut) => some.reduce((count, image) => count + isAbove(image, cut), 0);

// Scores on a line from 0 to 1, logarithmic where they are positive and spread wide.
const all = [...page.validation, ...images.map(image => image.score), page.threshold];
const least = all.reduce((a, b) => Math.min(a, b)), most = all.reduce((a, b) => Math.max(a, b));
const isLog = least > 0 && most / least > 30, warp = isLog ? Math.log : value => value, unwarp = isLog ? Math.exp : value => value;
const margin = (warp(most) - warp(least) || Math.abs(warp(most)) || 1) * 0.02;
const from = warp(least) - margin, to = warp(most) + margin;
const placeOf = score => (warp(score) - from) / (to - from), scoreAt = place => unwarp(from + place * (to - from));

const SVG = "http://www.w3.org/2000/svg";
function draw(parent, name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}
function ticks(low, high, count) {
  const rough = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find(each => each * power >= rough) * power, found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) found.push(Number(value.toPrecision(12)));
  return found;
}
function axes(svg, box, xs, ys, x, y, xName, yName) {
  const { left, right, top, bottom } = box;
  draw(svg, "path", { class: "axis", d: `M${left} ${top}V${bottom}H${right}` });
  for (const value of xs) draw(svg, "text", { x: x(value), y: bottom + 18, "text-anchor": "middle" }, short(value));
  for (const value of ys) draw(svg, "text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, short(value));
  draw(svg, "text", { x: (left + right) / 2, y: bottom + 40, "text-anchor": "middle" }, xName);
  draw(svg, "text", { x: 14, y: (top + bottom) / 2, "text-anchor": "middle", transform: `rotate(-90 14 ${(top + bottom) / 2})` }, yName);
}

// The histogram: steps by group, in the same bins.
const HISTOGRAM = { left: 50, right: 630, top: 12, bottom: 284 }, BINS = 40;
const xOf = score => HISTOGRAM.left + placeOf(score) * (HISTOGRAM.right - HISTOGRAM.left);
const cuts = (() => {
  const svg = by("histogram"), { left, right, top, bottom } = HISTOGRAM;
  const groups = { validation: page.validation, normal: normal.map(image => image.score), anomalous: anomalous.map(image => image.score) };
  const counted = Object.entries(groups).map(([name, values]) => {
    const bins = new Array(BINS).fill(0);
    for (const value of values) bins[Math.min(Math.floor(placeOf(value) * BINS), BINS - 1)] += 1;
    return [name, bins];
  });
  const highest = Math.max(1, ...counted.flatMap(([, bins]) => bins));
  const y = count => bottom - (bottom - top) * count / highest, width = (right - left) / BINS;
  for (const [name, bins] of counted) {
    if (!bins.some(Boolean)) continue;
    const steps = bins.map((count, bin) => `V${y(count)}H${left + (bin + 1) * width}`).join("");
    draw(svg, "path", { class: `bars ${name}`, d: `M${left} ${bottom}${steps}V${bottom}` });
  }
  const marks = isLog ? ticks(0, 1, 5).map(scoreAt) : ticks(scoreAt(0), scoreAt(1), 6);
  axes(svg, HISTOGRAM, marks, ticks(0, highest, Math.min(highest, 5)).filter(Number.isInteger), xOf, y, `anomaly score${isLog ? " (logarithmic)" : ""}`, "images");
  const line = { y1: top, y2: bottom };
  draw(svg, "line", { class: "cut own", x1: xOf(page.threshold), x2: xOf(page.threshold), ...line });
  return draw(svg, "line", { class: "cut", x1: 0, x2: 0, ...line });
})();

// The ROC curve, its band, and where the threshold stands on it.
const ROC = { left: 56, right: 408, top: 12, bottom: 284 };
const hasBoth = anomalous.length > 0 && normal.length > 0;
const rx = rate => ROC.left + rate * (ROC.right - ROC.left), ry = rate => ROC.bottom - rate * (ROC.bottom - ROC.top);
const here = hasBoth ? (() => {
  const svg = by("roc"), points = [[0, 0]], ordered = [...images].sort((one, other) => other.score - one.score);
  let found = 0, alarms = 0;
  ordered.forEach((image, place) => {
    if (image.label) found += 1; else alarms += 1;
    if (ordered[place + 1]?.score !== image.score) points.push([alarms, found]);
  });
  const bands = points.map(([a, f]) => [a / normal.length, intervalOf(true, f)]);
  const upper = bands.map(([rate, [, high]]) => `${rx(rate)} ${ry(high)}`), lower = bands.map(([rate, [low]]) => `${rx(rate)} ${ry(low)}`);
  draw(svg, "path", { class: "band", d: `M${upper.join("L")}L${lower.reverse().join("L")}Z` });
  draw(svg, "path", { class: "curve", d: `M${points.map(([a, f]) => `${rx(a / normal.length)} ${ry(f / anomalous.length)}`).join("L")}` });
  axes(svg, ROC, [0, 0.25, 0.5, 0.75, 1], [0, 0.25, 0.5, 0.75, 1], rx, ry, "false positive rate", "true positive rate");
  const own = [normal, anomalous].map(some => countAbove(some, page.threshold) / some.length);
  draw(svg, "circle", { class: "own-point", r: 7, cx: rx(own[0]), cy: ry(own[1]) });
  return { across: draw(svg, "path", { class: "spread" }), point: draw(svg, "circle", { class: "here", r: 4 }) };
})() : by("roc").closest("figure").remove();

// The threshold, and all that follows it.
let cut = page.threshold;
const number = by("value"), slide = by("slide");
const isWrong = image => isAbove(image, cut) !== Boolean(image.label);
const nearness = image => Math.abs(warp(image.score) - warp(cut));
const mistakeOf = image => !isWrong(image) ? "" : image.label ? "missed" : "false alarm";
function setThreshold(value) {
  cut = value;
  number.value = value;
  slide.value = placeOf(value);
  slide.setAttribute("aria-valuetext", short(value));
  for (const end of ["x1", "x2"]) cuts.setAttribute(end, xOf(value));
  const tp = countAbove(anomalous, cut), fp = countAbove(normal, cut), fn = anomalous.length - tp, tn = normal.length - fp;
  const rates = { tpr: [tp, anomalous.length], fpr: [fp, normal.length] };
  for (const [name, count] of Object.entries({ tp, fp, fn, tn })) by(name).textContent = count;
  for (const [name, [count, total]] of Object.entries(rates)) {
    by(name).textContent = percent(total ? count / total : NaN);
    by(`${name}-interval`).textContent = total ? intervalOf(name === "tpr", count).map(percent).join(" to ") : "-";
  }
  by("precision").textContent = percent(tp + fp ? tp / (tp + fp) : NaN);
  by("f1").textContent = 2 * tp + fp + fn ? (2 * tp / (2 * tp + fp + fn)).toFixed(4) : "-";
  for (const cell of document.querySelectorAll("[data-alarms]")) cell.textContent = normal.filter(image => isAbove(image, cut)).length;
  for (const cell of document.querySelectorAll("[data-found]")) cell.textContent = anomalous.filter(image => image.kind === cell.dataset.found && isAbove(image, cut)).length;
  if (here) {
    const [low, high] = intervalOf(true, tp), [left, right] = intervalOf(false, fp);
    const x = rx(fp / normal.length), y = ry(tp / anomalous.length);
    here.across.setAttribute("d", `M${rx(left)} ${y}H${rx(right)}M${x} ${ry(low)}V${ry(high)}`);
    here.point.setAttribute("cx", x);
    here.point.setAttribute("cy", y);
  }
  const wrong = images.filter(isWrong).sort((one, other) => nearness(other) - nearness(one));
  by("mistakes-head").textContent = `${wrong.length} mistake${wrong.length === 1 ? "" : "s"}: ${fn} missed, ${fp} false alarm${fp === 1 ? "" : "s"}`;
  by("mistakes").replaceChildren(...wrong.map(image => {
    const item = make("li", ""), button = make("button", image.id, { type: "button" });
    button.addEventListener("click", () => view(wrong, image));
    item.append(button, ` ${mistakeOf(image)}, ${said(image)}`);
    return item;
  }));
  update();
}
const said = image => `${image.label ? image.kind.replaceAll("_", " ") : "normal"}, score ${short(image.score)}`;
slide.addEventListener("input", () => setThreshold(scoreAt(Number(slide.value))));
number.addEventListener("change", () => setThreshold(Number.isFinite(number.valueAsNumber) && (!isLog || number.valueAsNumber > 0) ? number.valueAsNumber : cut));
by("reset").addEventListener("click", () => setThreshold(page.threshold));
by("histogram").addEventListener("click", event => {
  const { left, width } = by("histogram").getBoundingClientRect();
  const x = (event.clientX - left) / width * 640;
  setThreshold(scoreAt(Math.min(Math.max((x - HISTOGRAM.left) / (HISTOGRAM.right - HISTOGRAM.left), 0), 1)));
});

// Pictures: the image, the map in colours, both, or the mask. The blend is that of the heat maps of `inference`.
function decode(kind, file) {
  const picture = new Image();
  picture.src = `data:image/${kind};base64,${file}`;
  return picture.decode().then(() => picture);
}
function pixelsOf(picture, width, height, smooth = true) {
  const canvas = new OffscreenCanvas(width, height), context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = smooth;
  context.drawImage(picture, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}
async function paint(canvas, image, how) {
  const picture = await decode("jpeg", image.image), { naturalWidth: width, naturalHeight: height } = picture;
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (how === "mask") {
    context.imageSmoothingEnabled = false;
    context.drawImage(await decode("png", image.mask), 0, 0, width, height);
    return;
  }
  context.drawImage(picture, 0, 0);
  if (how === "image" || !image.map) return;
  const shown = context.getImageData(0, 0, width, height), { data } = shown;
  const heat = pixelsOf(await decode("png", image.map), width, height).data;
  for (let at = 0; at < data.length; at += 4) {
    const colour = page.heat[heat[at]], opacity = how === "map" ? 1 : 0.15 + 0.75 * heat[at] / 255;
    const clear = (1 - opacity) * (data[at] + data[at + 1] + data[at + 2]) / 3;
    for (let channel = 0; channel < 3; channel++) data[at + channel] = clear + opacity * colour[channel];
  }
  if (image.mask && how === "overlay") outline(data, pixelsOf(await decode("png", image.mask), width, height, false).data, width);
  context.putImageData(shown, 0, 0);
}
// Marks the mask's border in white.
function outline(data, mask, width) {
  for (let at = 0; at < data.length; at += 4) {
    if (mask[at] <= 127) continue;
    const around = [at - 4, at + 4, at - 4 * width, at + 4 * width];
    if (around.some(next => !(mask[next] > 127))) data.fill(255, at, at + 3);
  }
}
for (const bar of document.querySelectorAll("canvas.bar")) {
  const context = bar.getContext("2d");
  page.heat.forEach((colour, place) => { context.fillStyle = `rgb(${colour})`; context.fillRect(place, 0, 1, 1); });
}
for (const ends of document.querySelectorAll(".ends")) if (page.limits) ends.textContent = `map values ${short(page.limits[0])} (normal) to ${short(page.limits[1])} and more, in all pictures`;

// The gallery. Pictures are painted when they come near the screen.
const SHOWS = {
  all: () => true, mistakes: isWrong, missed: image => image.label && isWrong(image), "false alarms": image => !image.label && isWrong(image),
  borderline: image => borderline.has(image),
};
const ORDERS = {
  "highest score": (one, other) => other.score - one.score, "lowest score": (one, other) => one.score - other.score,
  "nearest threshold": (one, other) => nearness(one) - nearness(other), "worst mistakes": (one, other) => isWrong(other) - isWrong(one) || nearness(other) - nearness(one),
};
const state = { show: "all", kind: "", order: "highest score", picture: images.some(image => image.map) ? "overlay" : "image" };
let borderline = new Set(), shown = [];
const gallery = by("gallery"), filters = by("filters");
// One after the other, and those alone that are still near when their turn comes: so scrolling is not held up.
let painting = Promise.resolve();
const visible = new Set();
const near = new IntersectionObserver(entries => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) visible.delete(target);
    else if (!visible.has(target)) {
      visible.add(target);
      painting = painting.then(() => showPicture(target));
    }
  }
}, { rootMargin: "300px" });
async function showPicture(card) {
  const canvas = card.firstChild, how = state.picture;
  if (!visible.has(card) || canvas.dataset.painted === how) return;
  await paint(canvas, card.image, how);
  canvas.dataset.painted = how;
  canvas.setAttribute("aria-label", `${how} of ${card.image.id}`);
}
const cards = images.map(image => {
  const card = make("button", "", { type: "button", image }), canvas = make("canvas", "", { width: 4, height: 3 });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", image.id);
  card.append(canvas, make("span", image.id), make("span", said(image), { className: "muted" }), make("b", ""));
  card.addEventListener("click", () => view(shown, image));
  return card;
});
const buttons = Object.keys(SHOWS).map(name => {
  const button = make("button", `${name} `, { type: "button" });
  button.dataset.show = name;
  button.append(make("span", ""));
  button.addEventListener("click", () => { state.show = name; update(); });
  return button;
});
function choice(name, options, chosen) {
  const label = make("label", `${name} `), select = make("select", "");
  for (const [value, text] of options) select.append(make("option", text, { value }));
  select.value = state[chosen];
  select.id = `choose-${chosen}`;
  select.addEventListener("change", () => { state[chosen] = select.value; update(); });
  label.append(select);
  return label;
}
const kinds = [...new Set(anomalous.map(image => image.kind))].sort();
filters.append(
  ...buttons,
  choice("kind", [["", "all"], ...(normal.length ? [["normal", "normal"]] : []), ...kinds.map(kind => [`of ${kind}`, kind.replaceAll("_", " ")])], "kind"),
  choice("order", Object.keys(ORDERS).map(name => [name, name]), "order"),
  ...(images.some(image => image.map) ? [choice("picture", ["overlay", "image", "map"].map(name => [name, name]), "picture")] : []),
);
const isOfKind = image => !state.kind || (state.kind === "normal" ? !image.label : image.label && state.kind === `of ${image.kind}`);
let due = 0;
function update() {
  if (!due) due = requestAnimationFrame(() => { due = 0; showGallery(); });
}
function showGallery() {
  // Nearest to the threshold: a tenth of the images, and ten at least.
  borderline = new Set([...images].sort((one, other) => nearness(one) - nearness(other)).slice(0, Math.max(10, Math.ceil(images.length / 10))));
  for (const button of buttons) {
    button.setAttribute("aria-pressed", button.dataset.show === state.show);
    button.lastChild.textContent = images.filter(image => isOfKind(image) && SHOWS[button.dataset.show](image)).length;
  }
  shown = images.filter(image => isOfKind(image) && SHOWS[state.show](image)).sort(ORDERS[state.order]);
  near.disconnect();
  visible.clear();
  const wanted = shown.map(image => cards[image.place]);
  if (wanted.length !== gallery.children.length || wanted.some((card, place) => gallery.children[place] !== card)) gallery.replaceChildren(...wanted);
  for (const card of wanted) {
    card.classList.toggle("wrong", isWrong(card.image));
    card.lastChild.textContent = mistakeOf(card.image);
    near.observe(card);
  }
  by("nothing").hidden = shown.length > 0;
}

// One image, large; the arrow keys go on in the list that it was opened from.
const viewer = by("viewer"), views = viewer.querySelector(".views");
let list = [], current = 0;
function view(some, image) {
  list = some;
  current = some.indexOf(image);
  showImage();
  if (!viewer.open) viewer.showModal();
}
function showImage() {
  const image = list[current];
  by("viewer-name").textContent = image.id;
  by("viewer-note").textContent = `${said(image)}, ${isAbove(image, cut) ? "above" : "not above"} the threshold ${short(cut)}${isWrong(image) ? `: ${mistakeOf(image)}` : ""}`;
  by("place").textContent = `${current + 1} of ${list.length}`;
  views.replaceChildren(...["image", ...(image.map ? ["overlay", "map"] : []), ...(image.mask ? ["mask"] : [])].map(how => {
    const figure = make("figure", ""), canvas = make("canvas", "");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${how} of ${image.id}`);
    figure.append(canvas, make("figcaption", how));
    paint(canvas, image, how);
    return figure;
  }));
}
function step(by) {
  current = (current + by + list.length) % list.length;
  showImage();
}
by("previous").addEventListener("click", () => step(-1));
by("next").addEventListener("click", () => step(1));
by("close").addEventListener("click", () => viewer.close());
viewer.addEventListener("keydown", event => {
  const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (way) { event.preventDefault(); step(way); }
});
setThreshold(cut);
