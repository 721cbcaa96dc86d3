// The cart. The server sends it as HTML whenever it changes, whoever has changed it.

import { $, post, session } from "/assets/demo.js";

let events;

function follow() {
  events?.close();
  events = new EventSource("/shop/cart/events");
  events.addEventListener("cart", (e) => show(e.data));
  events.addEventListener("ended", () => setTimeout(() => location.reload(), 200)); // signed in or out: a new cookie is on its way
}

const quantities = () => new Map([...document.querySelectorAll("#cart output")].map((el) => [el.dataset.article, el.textContent]));

// show replaces the cart, marks what has changed, and keeps the focus.
function show(html) {
  const before = quantities();
  const count = $("cart").querySelector("ul")?.dataset.count;
  const focused = document.activeElement.id;
  const inside = $("cart").contains(document.activeElement);
  $("cart").innerHTML = html;
  for (const el of document.querySelectorAll("#cart output")) {
    if (el.textContent !== before.get(el.dataset.article)) el.closest("li").classList.add("changed");
  }
  if (inside) ($(focused) || $("cart-title")).focus();
  const now = $("cart").querySelector("ul")?.dataset.count;
  if (now !== count) $("cart-note").textContent = `The cart has ${now || 0} ${now === "1" ? "article" : "articles"}.`;
}

// A form changes the cart without loading the page. The cart then comes as an event.
document.addEventListener("submit", async (e) => {
  if (!e.target.action.includes("/shop/cart")) return;
  e.preventDefault();
  try {
    const answer = await post(e.target.action, new URLSearchParams(new FormData(e.target, e.submitter)));
    if (!answer.ok) throw new Error(await answer.text());
    if (events?.readyState !== EventSource.OPEN) start(); // the first change has created the session
  } catch (err) {
    $("cart-note").textContent = err instanceof TypeError ? "The server did not respond. Is it still running?" : err.message;
  }
});

// A page that nobody sees needs no connection.
document.addEventListener("visibilitychange", () => (document.hidden ? events?.close() : follow()));

// start gets the CSRF token of the session, and follows the cart.
function start() {
  session().then(follow, () => {});
}
start();
