// What the scripts of the pages share. The session cookie is HttpOnly: the browser sends it with
// each request, and no script can read it.

export const $ = (id) => document.getElementById(id);
export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

// session fetches the content of the session. With ms, the server waits before it reads the
// session.
export async function session(ms = 0) {
  const answer = await fetch(ms ? `/session?ms=${ms}` : "/session", { cache: "no-store" });
  if (!answer.ok) throw new Error(`The server responded to /session with status ${answer.status}.`);
  const s = await answer.json();
  csrf = s.csrf_token || csrf;
  return s;
}

// post sends a POST request, with the CSRF token of the session if the server requires one.
let csrf = "";
export const post = (url, body, accept = "text/plain") =>
  fetch(url, { method: "POST", body, headers: { Accept: accept, ...(csrf && { "X-CSRF-Token": csrf }) } });

// begin returns the session. If there is none, a visit creates it first. Otherwise 50 requests
// without a cookie would create 50 sessions.
export async function begin() {
  let s = await session();
  if (!s.handle) {
    await fetch("/", { headers: { Accept: "text/plain" } });
    s = await session();
  }
  if (!s.handle) throw new Error(cookieRefused);
  return s;
}

export const cookieRefused =
  "Your browser did not store the cookie. Over plain HTTP, Safari and phones on the local network refuse a Secure cookie. " +
  "Start the demo with --insecure-http.";

// ---- The session on the ticket

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
const precise = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" }); // with seconds
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });

// dayOf returns the day of a time. For today it returns the text that the caller passes.
const dayOf = (t, today) => (t.toDateString() === new Date().toDateString() ? today : `${day.format(t)}, `);

function span(ms) {
  const minutes = Math.round(ms / 60000);
  if (minutes < 1) return "less than a minute";
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
}

// showTime shows a time of the ticket. For a time in the future, it adds how far away that is.
function showTime(el, text) {
  if (!text) {
    el.textContent = "–";
    return;
  }
  const t = new Date(text);
  const away = t - Date.now();
  el.dateTime = text;
  el.textContent = dayOf(t, "") + (away > 60000 ? `${clock.format(t)}, in ${span(away)}` : precise.format(t));
}

// showMoment shows a time in the list of devices.
export function showMoment(el) {
  const t = new Date(el.dateTime);
  el.textContent = dayOf(t, "today, ") + clock.format(t);
}

// show shows the session on the ticket of the page, and the user at the top.
export function show(s) {
  const at = (name) => document.querySelector(`[data-show="${name}"]`);
  at("handle").textContent = s.handle || "no session";
  for (const name of ["created", "seen", "idle", "deadline"]) showTime(at(name).querySelector("time"), s[name]);
  at("count").textContent = s.handle ? s.count : "–";
  at("slow").textContent = s["lab.slow"] ? `waited ${s["lab.slow"].waited_ms} ms` : s.handle ? "not set" : "–";
  // A race may have created a new session.
  for (const field of document.querySelectorAll("[name=csrf_token]")) field.value = csrf;
  document.querySelector(".ticket").classList.toggle("ended", !s.handle);
  if (!s.user) showSignedOut(); // a race, or another device, may have signed this one out
}

// showSignedOut shows at the top of the page that nobody is signed in.
export function showSignedOut() {
  document.querySelector(".who").innerHTML = '<span id="who">not signed in</span>';
}

if (document.querySelector(".ticket")) session().then(show, () => {});
