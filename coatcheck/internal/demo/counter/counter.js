// The page stores a session. If there is none, the browser has refused the cookie.

import { $, cookieRefused, session } from "/assets/demo.js";

session().then((s) => {
  if (s.handle) return;
  $("session-note").textContent = cookieRefused;
  $("session-note").className = "warning";
}, () => {});
