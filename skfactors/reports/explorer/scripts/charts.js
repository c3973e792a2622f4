// Drawings in SVG.

const WIDTH = 480;
const HEIGHT = 170;
const MARGIN = { left: 24, right: 24, top: 22, bottom: 24 };

/** Draw a curve without axes. */
function sparkline(values) {
  const largest = Math.max(...values) || 1;
  const points = values.map((value, place) => {
    const x = values.length === 1 ? 30 : 2 + (56 * place) / (values.length - 1);
    return `${x.toFixed(1)},${(18 - (16 * value) / largest).toFixed(1)}`;
  });
  if (points.length === 1) points.push(points[0]);
  return drawn("svg", { class: "spark", viewBox: "0 0 60 20", "aria-hidden": "true" }, drawn("polyline", { points: points.join(" ") }));
}

function chart(label) {
  return drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "group", "aria-label": label });
}

function text(x, y, content, kind = "") {
  return drawn("text", { x, y, class: kind }, content);
}

function height(value, largest) {
  return ((HEIGHT - MARGIN.top - MARGIN.bottom) * value) / (largest || 1);
}

/** Draw a factor's importance over the layers; every point leads to its layer. A second factor's curve is dashed. */
function importanceChart([factor, beside = null]) {
  const curve = curveOf(factor);
  const other = beside === null ? [] : curveOf(beside);
  const largest = Math.max(...curve, ...other);
  const baseline = HEIGHT - MARGIN.bottom;
  const step = (WIDTH - MARGIN.left - MARGIN.right) / curve.length;
  const xs = curve.map((_, place) => MARGIN.left + step * (place + 0.5));
  const heights = (values) => values.map((value) => baseline - height(value, largest));
  const ys = heights(curve);
  const image = chart(beside === null ? "Importance by layer" : `Importance by layer, and that of factor ${beside}`);
  const points = xs.map((x, place) => `${x},${ys[place]}`).join(" ");
  image.append(
    drawn("line", { class: "axis", x1: MARGIN.left, x2: WIDTH - MARGIN.right, y1: baseline, y2: baseline }),
    drawn("polygon", { class: "area", points: `${xs[0]},${baseline} ${points} ${xs.at(-1)},${baseline}` }),
    drawn("polyline", { class: "curve", points }),
  );
  if (beside !== null) {
    const dashed = heights(other).map((y, place) => `${xs[place]},${y}`);
    image.append(drawn("polyline", { class: "curve other", points: dashed.join(" ") }));
  }
  byId("importance-caption").textContent = beside === null ? "Importance by layer" : `Importance by layer; dashed: factor ${beside}`;
  const every = Math.ceil(curve.length / 14);
  factors.layers.forEach((layer, place) => {
    const link = drawn("a", { href: linkTo({ layer, range: null }), "aria-label": `Layer ${layer}`, "data-key": `layer ${layer}` });
    if (layer === shownLayer()) link.setAttribute("class", "shown");
    link.append(
      drawn("rect", { class: "target", x: xs[place] - step / 2, y: 0, width: step, height: HEIGHT }),
      drawn("circle", { cx: xs[place], cy: ys[place], r: 4.5 }),
      drawn("title", {}, `layer ${layer}: ${curve[place]}`),
    );
    if (place % every === 0) {
      link.append(text(xs[place], ys[place] - 9, curve[place].toPrecision(2)), text(xs[place], HEIGHT - 6, String(layer), "tick"));
    }
    image.append(link);
  });
  return image;
}

/** Draw counts of activations by size; every bar leads to the contexts in its range. */
function histogramChart(edges, bins, sizes) {
  const image = chart("Histogram of activations");
  const first = Math.min(...bins);
  const n_bins = Math.max(...bins) - first + 1;
  const baseline = HEIGHT - MARGIN.bottom;
  const step = Math.min(60, (WIDTH - MARGIN.left - MARGIN.right) / n_bins);
  const start = (WIDTH - step * n_bins) / 2;
  const largest = Math.max(...sizes);
  const every = Math.ceil(n_bins / 9);
  const inOrder = bins.map((bin, place) => [bin, sizes[place]]).sort(([one], [other]) => one - other);
  for (const [bin, size] of inOrder) {
    const x = start + step * (bin - first);
    const tall = height(size, largest);
    const what = `${rangeOf(bin, edges)}: ${size.toLocaleString("en")} row${size === 1 ? "" : "s"}`;
    const range = bin === view.range ? null : bin;
    const link = drawn("a", { href: linkTo({ range }), "aria-label": what, "data-key": `bin ${bin}` });
    if (bin === view.range) link.setAttribute("class", "shown");
    link.append(
      drawn("rect", { class: "target", x, y: MARGIN.top, width: step, height: HEIGHT - MARGIN.top }),
      drawn("rect", { class: "bar", x: x + 1, y: baseline - tall, width: step - 2, height: tall }),
      drawn("title", {}, what),
      text(x + step / 2, baseline - tall - 6, step > 26 ? size.toLocaleString("en") : ""),
    );
    image.append(link);
  }
  image.append(drawn("line", { class: "axis", x1: start, x2: start + step * n_bins, y1: baseline, y2: baseline }));
  for (let edge = 0; edge <= n_bins; edge += every) {
    // Beyond the first and the last edge there are bars without an end.
    if (first + edge === 0 || first + edge === edges.length - 1) continue;
    image.append(text(start + step * edge, HEIGHT - 6, String(Number(edges[first + edge].toPrecision(2))), "tick"));
  }
  return image;
}
