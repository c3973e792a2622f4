// All factors as points: those of similar directions lie near each other. Listed ones are in colour, the others faint.

const POINT = 3.5;
const NEAR_ENOUGH = 14;
const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const LABELS = 60;
const LABEL_HEIGHT = 14;
const LONGEST_LABEL = 24;
let places = null;
let pointed = null;

async function drawMap() {
  const box = byId("map");
  const canvas = box.querySelector("canvas");
  document.querySelector("article").hidden = view.show === "map";
  byId("examples").classList.toggle("aside", view.show === "map");
  if (view.show !== "map") {
    box.hidden = true;
    return;
  }
  const map = await section("map");
  // The reader may have gone on; and nobody can point at a map before it is here.
  if (view.show !== "map") return;
  box.hidden = false;
  if (map === null) {
    byId("map-legend").textContent = "There is no map: the report was made without the dictionary.";
    canvas.hidden = true;
    return;
  }
  canvas.setAttribute("aria-label", `Map of ${factors.n_factors} factors, by ${map.method}. Arrow keys move over it, Enter opens.`);
  const scale = devicePixelRatio;
  canvas.width = canvas.clientWidth * scale;
  canvas.height = canvas.clientHeight * scale;
  const size = Math.min(canvas.clientWidth, canvas.clientHeight) - 4 * POINT;
  const left = (canvas.clientWidth - size) / 2;
  const top = (canvas.clientHeight - size) / 2;
  places = map.x.map((x, factor) => [left + (size * x) / map.size, top + (size * (map.size - map.y[factor])) / map.size]);
  const drawing = canvas.getContext("2d");
  drawing.scale(scale, scale);
  const isListed = new Uint8Array(factors.n_factors);
  for (const factor of listed) isListed[factor] = 1;
  const colours = Object.fromEntries(factors.level_names.map((level) => [level, colourOf(level)]));
  for (const strong of [0, 1]) {
    drawing.globalAlpha = strong ? 0.85 : 0.12;
    places.forEach(([x, y], factor) => {
      if (isListed[factor] === strong) dot(drawing, x, y, POINT, colours[levelOf(factor)]);
    });
  }
  drawing.globalAlpha = 1;
  writeLabels(drawing, canvas.clientWidth);
  ring(drawing, places[view.factor], POINT + 4, colourOf("ink"));
  ring(drawing, places[pointed], POINT + 2, colourOf("accent"));
  byId("map-label").textContent = `${pointed} ${shortened(labelOf(pointed))}`;
  byId("map-legend").replaceChildren(
    `By ${map.method} `,
    ...LEVEL_ORDER.filter((level) => factors.level_names.includes(level)).flatMap((level) => {
      const swatch = element("span", { class: "swatch" });
      swatch.style.backgroundColor = `var(--level-${level})`;
      return [swatch, `${level} `];
    }),
  );
}

/** Write what listed factors are called, the first of the list first, where there is room for it. */
function writeLabels(drawing, width) {
  const taken = [];
  drawing.font = "12px system-ui, sans-serif";
  drawing.fillStyle = colourOf("ink");
  drawing.strokeStyle = colourOf("card");
  drawing.lineWidth = 3;
  for (const factor of listed) {
    if (taken.length === LABELS) break;
    const label = labelOf(factor).split(", ")[0].slice(0, LONGEST_LABEL);
    const [x, y] = [places[factor][0] + POINT + 3, places[factor][1] + 4];
    const right = x + drawing.measureText(label).width;
    const isFree = right < width && taken.every((other) => right < other.x || x > other.right || Math.abs(y - other.y) > LABEL_HEIGHT);
    if (!isFree) continue;
    drawing.strokeText(label, x, y);
    drawing.fillText(label, x, y);
    taken.push({ x, y, right });
  }
}

function colourOf(name) {
  const variable = ["ink", "accent", "card"].includes(name) ? `--${name}` : `--level-${name}`;
  const probe = element("span");
  probe.style.color = `var(${variable})`;
  byId("map").append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

function dot(drawing, x, y, radius, colour) {
  drawing.fillStyle = colour;
  drawing.beginPath();
  drawing.arc(x, y, radius, 0, 2 * Math.PI);
  drawing.fill();
}

function ring(drawing, [x, y], radius, colour) {
  drawing.strokeStyle = colour;
  drawing.lineWidth = 2;
  drawing.beginPath();
  drawing.arc(x, y, radius, 0, 2 * Math.PI);
  drawing.stroke();
}

/** Return the listed factor nearest to a place, or null where none is near. */
function factorNear(x, y) {
  let nearest = null;
  let least = NEAR_ENOUGH ** 2;
  for (const factor of listed) {
    const distance = (places[factor][0] - x) ** 2 + (places[factor][1] - y) ** 2;
    if (distance < least) [nearest, least] = [factor, distance];
  }
  return nearest;
}

/** Return the factor that is next in a direction: near, and not far off the line. */
function factorTowards([right, down]) {
  const [x, y] = places[pointed];
  let next = pointed;
  let least = Infinity;
  for (const factor of listed) {
    const along = (places[factor][0] - x) * right + (places[factor][1] - y) * down;
    const across = Math.abs((places[factor][0] - x) * down) + Math.abs((places[factor][1] - y) * right);
    if (factor !== pointed && along > 0 && along + 2 * across < least) [next, least] = [factor, along + 2 * across];
  }
  return next;
}

function pointAt(factor) {
  if (factor === null || factor === pointed) return;
  pointed = factor;
  drawMap();
}

function listenToMap() {
  const canvas = byId("map").querySelector("canvas");
  canvas.addEventListener("mousemove", (event) => pointAt(factorNear(event.offsetX, event.offsetY)));
  canvas.addEventListener("click", (event) => {
    const factor = factorNear(event.offsetX, event.offsetY);
    if (factor !== null) goTo(factor);
  });
  canvas.addEventListener("keydown", (event) => {
    if (event.key === "Enter") goTo(pointed);
    else if (Object.hasOwn(DIRECTIONS, event.key)) pointAt(factorTowards(DIRECTIONS[event.key]));
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
}
