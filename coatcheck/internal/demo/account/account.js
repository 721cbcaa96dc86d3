// The times in the list of devices, in the visitor's language and time zone.

import { showMoment } from "/assets/demo.js";

document.querySelectorAll(".devices time").forEach(showMoment);
