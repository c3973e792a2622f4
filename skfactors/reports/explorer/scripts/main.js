// What follows on what the reader does.

// As wide as a phone is at most, where the list and the factor take turns.
const NARROW = 800;

const KEYS = {
  ArrowRight: () => step(1),
  n: () => step(1),
  ArrowLeft: () => step(-1),
  p: () => step(-1),
  r: () => goToRandom(byId("random-level").value),
  s: () => (location.hash = linkTo({ layer: view.layer === ALL_LAYERS ? null : ALL_LAYERS, range: null })),
  m: () => (location.hash = view.show === "map" ? linkTo({}) : "view=map"),
  e: () => byId("name").focus(),
  "/": () => searchBox().focus(),
};
const KEYS_IN_SEARCH = { ArrowDown: () => step(1), ArrowUp: () => step(-1), Enter: openFirst };
const ROWS_A_PAGE = 8;
const KEYS_IN_LIST = {
  ArrowDown: () => moveCursor(1),
  ArrowUp: () => moveCursor(-1),
  PageDown: () => moveCursor(ROWS_A_PAGE),
  PageUp: () => moveCursor(-ROWS_A_PAGE),
  Home: () => moveCursor(-listed.length),
  End: () => moveCursor(listed.length),
};

function searchBox() {
  return byId("filters").elements.query;
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { target, key } = event;
  const isTyping = target.matches("input, select, textarea");
  if (key === "Escape" && isTyping) byId("title").focus({ preventScroll: true });
  if (key === "Escape" && byId("menu").open) {
    byId("menu").open = false;
    byId("menu").firstElementChild.focus();
  }
  const inList = byId("list").contains(target) ? KEYS_IN_LIST : {};
  const keys = target === searchBox() ? KEYS_IN_SEARCH : isTyping ? {} : { ...KEYS, ...inList };
  // There they scroll.
  if (["ArrowLeft", "ArrowRight"].includes(key) && target.closest(".scrolled")) return;
  if (!Object.hasOwn(keys, key)) return;
  event.preventDefault();
  keys[key]();
}

/** Show what the address asks for; without a factor in it, the one before it, or the first of the list. */
async function followAddress() {
  const isWhole = history.state === WHOLE;
  if (fillFromAddress(isWhole)) refreshList();
  // Going back does not change light and dark; an address that was put into the bar does.
  if (!isWhole) followAppearance();
  const asked = viewInAddress();
  const before = view.factor;
  Object.assign(view, asked.factor === null ? { show: asked.show } : asked);
  view.factor ??= listed[0] ?? 0;
  pointed = view.factor;
  document.body.dataset.view = view.show;
  markMain();
  // What was said while the page was opened stays until the reader goes on.
  if (before !== null) say("");
  keepInAddress();
  scrollToFactor();
  if (before !== null && before !== view.factor) announce();
  keepFocus();
  await Promise.all([drawMap(), showFactor()]);
}

/** On a phone the list, while it alone is shown, is the main part of the page. */
function markMain() {
  const isAlone = view.show === "list" && innerWidth <= NARROW;
  byId("aside").setAttribute("role", isAlone ? "main" : "complementary");
}

/** Where what had the focus has gone, as the list has on a phone, give it to what took its place. */
function keepFocus() {
  const focused = document.activeElement;
  if (focused === document.body || focused.checkVisibility()) return;
  if (view.show === "list") rows.get(cursor)?.firstElementChild.focus({ preventScroll: true });
  else byId("title").focus({ preventScroll: true });
}

function toggleTheme() {
  const root = document.documentElement;
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
  keepInAddress();
  drawMap();
}

function fillChoices() {
  const filters = byId("filters").elements;
  for (const level of LEVEL_ORDER.filter((known) => factors.level_names.includes(known))) {
    filters.level.append(element("option", { value: level }, level));
    byId("random-level").append(element("option", { value: level }, level));
  }
  for (const layer of factors.layers) filters.peak.append(element("option", { value: layer }, String(layer)));
}

function listen() {
  const onClick = {
    previous: () => step(-1),
    next: () => step(1),
    random: () => goToRandom(byId("random-level").value),
    theme: toggleTheme,
    "save-page": savePage,
    "export-names": exportNames,
    "copy-list": () => copy(listAsCsv(), `${listed.length} factors`),
    "copy-contexts": async () => copy(await contextsAsCsv(), "the contexts"),
  };
  for (const [id, action] of Object.entries(onClick)) byId(id).addEventListener("click", action);
  byId("filters").addEventListener("input", refreshAll);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  // A form is cleared only after this event.
  byId("filters").addEventListener("reset", () => setTimeout(refreshAll));
  byId("list").addEventListener("scroll", drawList);
  byId("list").addEventListener("focusin", (event) => {
    cursor = Number(event.target.dataset.factor);
    drawList();
  });
  byId("number").addEventListener("change", goToNumber);
  byId("beside").addEventListener("change", showBeside);
  byId("shade").addEventListener("change", (event) => {
    view.shade = event.target.value;
    keepInAddress();
    showFactor();
  });
  byId("name").addEventListener("input", (event) => nameFactor(view.factor, event.target.value));
  byId("import-names").addEventListener("change", (event) => importNames(event.target.files[0]));
  addEventListener("keydown", onKey);
  addEventListener("hashchange", followAddress);
  addEventListener("resize", () => {
    markMain();
    drawList();
    drawMap();
  });
  listenToMap();
}

/** Open the first of the list. */
function openFirst() {
  if (listed.length > 0) goTo(listed[0]);
}

function showBeside(event) {
  const beside = event.target.value === "" ? null : knownFactor(event.target.value);
  if (beside === null && event.target.value !== "") say(`There are factors from 0 to ${factors.n_factors - 1}.`);
  else location.hash = linkTo({ beside, layer: null, range: null });
}

function goToNumber(event) {
  const factor = knownFactor(event.target.value);
  if (factor === null) say(`There are factors from 0 to ${factors.n_factors - 1}.`);
  else goTo(factor);
}

async function refreshAll() {
  refreshList();
  keepInAddress();
  await Promise.all([drawMap(), showFactor()]);
}

async function start() {
  const [ofFactors, examples] = await Promise.all([section("factors"), section("examples")]);
  factors = ofFactors;
  byId("about").textContent = factors.about;
  byId("what").open = innerWidth > NARROW;
  byId("number").max = factors.n_factors - 1;
  byId("beside").max = factors.n_factors - 1;
  rankClearest();
  loadNames();
  fillChoices();
  listen();
  drawExamples(examples);
  fillFromAddress();
  refreshList();
  followAppearance();
  const asked = new URLSearchParams(location.hash.slice(1));
  // On a phone the list comes first, unless there are texts of one's own or the address asks for a factor.
  if (viewInAddress().factor === null && !asked.has("view") && examples.length === 0) history.replaceState(null, "", "#view=list");
  await followAddress();
  await foldTexts(await section("contexts"));
  if (searchBox().value !== "") refreshAll();
}

start().catch((error) => {
  say(`This page could not be drawn (${error.message}). It needs a browser of 2024 or later.`);
  throw error;
});
