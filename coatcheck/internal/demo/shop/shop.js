// The cart. The server sends it as HTML whenever it changes, whoever has changed it.

import { $, begin, post, session } from "/assets/demo.js";

let events, retry, began;

// follow follows the cart. If the server does not respond, it tries again.
async function follow() {
  clearTimeout(retry);
  events?.close();
  if (document.hidden) return; // a page that nobody sees needs no connection
  const s = await session().catch(() => null);
  if (!s) return tryAgain();
  if (!s.handle) {
    if (events) location.reload(); // the session has expired meanwhile
    return; // nothing is stored that can change
  }
  events?.close(); // of a call that ran meanwhile
  events = new EventSource("/shop/cart/events");
  events.addEventListener("cart", (e) => show(e.data));
  events.addEventListener("ended", () => setTimeout(() => location.reload(), 200)); // signed in or out: a new cookie is on its way
  events.onerror = tryAgain;
}

function tryAgain() {
  events?.close();
  clearTimeout(retry);
  $("cart-note").textContent = noAnswer;
  retry = setTimeout(follow, 1000);
}

const noAnswer = "The shop does not respond. Trying again.";

// show updates the cart in place, so that the focus and a button that is being pressed stay. It
// marks and says what has changed.
function show(html) {
  const now = document.createElement("div");
  now.innerHTML = html;
  const changes = changed(now);
  const title = document.activeElement.closest("#cart") && $("cart-title");
  const [list, newList] = [$("cart").querySelector("ul"), now.querySelector("ul")];
  if (list && newList) {
    updateLines(list, newList);
    $("cart").querySelector(".total").replaceWith(now.querySelector(".total"));
  } else if (list || newList) {
    $("cart").replaceChildren(...now.childNodes);
  }
  if (title && !document.activeElement.closest("#cart")) title.focus(); // the focused line is gone
  for (const [key] of changes) $(`line-${key}`)?.classList.add("changed");
  if (changes.length) {
    const count = newList?.dataset.count ?? 0;
    const said = changes.map(([, name, n]) => `${name}: ${n}.`).join(" ");
    $("cart-note").textContent = `${said} The cart has ${count} ${count === "1" ? "article" : "articles"}.`;
  } else if ($("cart-note").textContent === noAnswer) {
    $("cart-note").textContent = "";
  }
}

// changed returns the key, the name and the new quantity of each article that the new cart changes.
function changed(now) {
  const lines = (cart) => new Map([...cart.querySelectorAll("output")].map((el) => [el.dataset.article, el]));
  const [before, after] = [lines($("cart")), lines(now)];
  const all = new Map([...before, ...after]);
  const quantity = (cart, key) => cart.get(key)?.textContent ?? "0";
  return [...all].filter(([key]) => quantity(before, key) !== quantity(after, key))
    .map(([key, el]) => [key, el.closest("li").querySelector(".name").textContent, quantity(after, key)]);
}

// updateLines makes the lines of the cart those of newList. Lines that stay keep their elements.
function updateLines(list, newList) {
  for (const line of [...list.children]) {
    if (!newList.querySelector(`#${line.id}`)) line.remove();
  }
  for (const [i, line] of [...newList.children].entries()) {
    const old = list.querySelector(`#${line.id}`);
    if (!old) {
      list.insertBefore(line, list.children[i]);
      continue;
    }
    for (const part of ["output", ".sum"]) old.querySelector(part).textContent = line.querySelector(part).textContent;
  }
  list.dataset.count = newList.dataset.count;
}

// A form changes the cart without loading the page. The cart then comes as an event.
document.addEventListener("submit", async (e) => {
  if (!e.target.action.includes("/shop/cart")) return;
  e.preventDefault();
  const change = new URLSearchParams(new FormData(e.target, e.submitter));
  try {
    await (began ??= begin()); // otherwise two clicks at once would create two sessions
    const answer = await post(e.target.action, change);
    if (!answer.ok) throw new Error(await answer.text());
    if (events?.readyState !== EventSource.OPEN) follow();
  } catch (err) {
    began = undefined;
    $("cart-note").textContent = err instanceof TypeError ? "The server did not respond. Is it still running?" : err.message;
  }
});

$("cart").addEventListener("animationend", (e) => e.target.classList.remove("changed"));
document.addEventListener("visibilitychange", follow);
follow();
