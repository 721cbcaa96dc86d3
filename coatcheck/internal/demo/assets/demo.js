// The two races of the page. The session cookie is HttpOnly: the browser sends it with each request, and
// this script cannot read it.

const $ = (id) => document.getElementById(id);
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

// session fetches the content of the session. With ms, the server waits before it reads the session.
async function session(ms = 0) {
  const answer = await fetch(ms ? `/session?ms=${ms}` : "/session", { cache: "no-store" });
  if (!answer.ok) throw new Error(`The server responded to /session with status ${answer.status}.`);
  const s = await answer.json();
  csrf = s.csrf_token || csrf;
  return s;
}

// post sends a POST request, with the CSRF token of the session if the server requires one.
let csrf = "";
const post = (url, accept = "text/plain") =>
  fetch(url, { method: "POST", headers: { Accept: accept, ...(csrf && { "X-CSRF-Token": csrf }) } });

// begin returns the session. If there is none, a visit creates it first. Otherwise 50 requests without a
// cookie would create 50 sessions.
async function begin() {
  let s = await session();
  if (!s.handle) {
    await fetch("/", { headers: { Accept: "text/plain" } });
    s = await session();
  }
  if (!s.handle) throw new Error(cookieRefused);
  return s;
}

const cookieRefused =
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
function showMoment(el) {
  const t = new Date(el.dateTime);
  el.textContent = dayOf(t, "today, ") + clock.format(t);
}

function show(s) {
  const at = (name) => document.querySelector(`[data-show="${name}"]`);
  at("handle").textContent = s.handle || "no session";
  for (const name of ["created", "seen", "idle", "deadline"]) showTime(at(name).querySelector("time"), s[name]);
  at("count").textContent = s.handle ? s.count : "–";
  at("slow").textContent = s["lab.slow"] ? `waited ${s["lab.slow"].waited_ms} ms` : s.handle ? "not set" : "–";
  for (const field of document.querySelectorAll("[name=csrf_token]")) field.value = csrf; // a race may have created a new session
  document.querySelector(".ticket").classList.toggle("ended", !s.handle);
  if (!s.user && $("user")) { // a race, or another device, signed this one out
    $("user").remove();
    document.querySelector(".notice")?.remove();
    $("guest").hidden = false;
    $("guest").querySelector("h3").id = "people-title";
  }
}

// ---- Running a race

function verdict(id, state, text) {
  $(id).dataset.state = state;
  $(id).textContent = text;
}

// lab runs one race at a time, and shows the error if the race fails.
function lab(button, verdictID, run) {
  $(button).addEventListener("click", async () => {
    if ($("add").ariaDisabled === "true") return;
    $("add").ariaDisabled = $("end").ariaDisabled = "true"; // "disabled" would remove the focus
    try {
      await run();
    } catch (err) {
      verdict(verdictID, "bad", err instanceof TypeError ? "The server did not respond. Is it still running?" : err.message);
    } finally {
      $("add").ariaDisabled = $("end").ariaDisabled = null;
    }
  });
}

// ---- No write is lost

async function add(cell) {
  cell.dataset.state = "sent";
  const answer = await post("/lab/add", "application/json");
  if (!answer.ok) {
    cell.dataset.state = "failed";
    cell.textContent = "×";
    return null;
  }
  const { count } = await answer.json();
  cell.dataset.state = "done";
  cell.textContent = count;
  return count;
}

async function runAdd() {
  const cells = [...$("cells").children];
  for (const cell of cells) {
    delete cell.dataset.state;
    cell.textContent = "";
  }
  for (const id of ["before", "expected", "after"]) $(id).textContent = "…";
  verdict("add-verdict", "busy", `${cells.length} requests are running.`);
  const before = (await begin()).count;
  const expected = before + cells.length;
  $("before").textContent = before;
  $("expected").textContent = expected;

  const answers = await Promise.all(cells.map(add));
  const s = await session();
  show(s);
  $("after").textContent = s.count;
  const different = new Set(answers.filter((n) => n !== null)).size;
  if (s.count === expected && different === cells.length) {
    verdict("add-verdict", "good", `No increment is lost: ${cells.length} requests got ${cells.length} different counts.`);
  } else if (s.count > expected && different === cells.length) {
    verdict("add-verdict", "good", `No increment is lost. Another request, perhaps of another tab, added ${s.count - expected} more.`);
  } else {
    verdict("add-verdict", "bad", `Expected ${cells.length} different counts and a final count of ${expected}: got ${different} and ${s.count}.`);
  }
}

// ---- Ended is ended

const pause = 1500; // how long the slow request waits, in ms
const signOutAt = 500;
const scale = 2000; // how many ms the width of a lane shows

// lane sends one request and draws it from its start to its response. It returns whether the response is
// as expected.
async function lane(id, began, request, judge) {
  const bar = document.querySelector(`#${id} .bar`);
  const outcome = document.querySelector(`#${id} .outcome`);
  const percent = (ms) => `${Math.min(100, (100 * ms) / scale)}%`;
  const start = performance.now() - began;
  let running = true;
  const draw = () => {
    bar.style.left = percent(start);
    bar.style.width = percent(performance.now() - began - start);
    if (running) requestAnimationFrame(draw);
  };
  outcome.textContent = "running";
  draw();
  try {
    const answer = await request();
    const [good, text] = judge(answer);
    $(id).dataset.state = good ? "good" : "bad";
    outcome.textContent = text;
    return good;
  } catch (err) {
    $(id).dataset.state = "bad";
    outcome.textContent = "no response";
    throw err;
  } finally {
    running = false;
  }
}

const noSession = (s) => (s.handle ? [false, `found ${s.handle}`] : [true, "no session"]);

async function runEnd() {
  for (const li of document.querySelectorAll(".lanes li")) {
    delete li.dataset.state;
    li.querySelector(".bar").style.width = 0;
    li.querySelector(".outcome").textContent = "–";
  }
  verdict("end-verdict", "busy", "The slow request is running.");
  const before = await begin();
  show(before);

  const began = performance.now();
  const slow = lane("lane-slow", began, () => post(`/lab/slow?ms=${pause}`), (a) =>
    a.status === 409 ? [true, "409, refused"] : [false, `${a.status}, written`]);
  const look = lane("lane-look", began, () => session(pause), noSession);
  const out = sleep(signOutAt).then(() => lane("lane-out", began, () => post("/sign-out"), (a) => [a.ok, `${a.status}, signed out`]));
  out.then((ok) => ok && verdict("end-verdict", "busy", "Signed out. The slow request is still running."), () => {});
  const results = await Promise.all([slow, look, out]);
  results.push(await lane("lane-next", began, session, noSession));

  show(await session());
  if (results.every(Boolean)) {
    verdict("end-verdict", "good", `Session ${before.handle} stays ended. Your next visit starts a new session.`);
  } else {
    verdict("end-verdict", "bad", "The race did not end as it should: see the red bars.");
  }
}

lab("add", "add-verdict", runAdd);
lab("end", "end-verdict", runEnd);
document.querySelectorAll(".devices time").forEach(showMoment);

session().then((s) => {
  show(s);
  if (!s.handle) {
    $("session-note").textContent = cookieRefused;
    $("session-note").className = "warning";
  }
}, () => {});
