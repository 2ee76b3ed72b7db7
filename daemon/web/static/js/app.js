// Puts the page together: what the feed says goes to the parts that show it.

import * as accounting from "./accounting.js";
import { Charts } from "./charts.js";
import * as classes from "./classes.js";
import { byId, setText } from "./dom.js";
import { Feed } from "./feed.js";
import { History } from "./history.js";
import * as link from "./link.js";
import * as log from "./log.js";
import * as matrix from "./matrix.js";
import { ofTask } from "./palette.js";
import * as senders from "./senders.js";
import * as snapshots from "./snapshots.js";
import * as state from "./state.js";
import * as tasks from "./tasks.js";

const history = new History();
const charts = new Charts();
const span = byId("span");
let heard = false; // a status: it has the order in which the tasks get their colours, in the charts too
const drawCharts = () => heard && history.isKnown && charts.show(history, Number(span.value));

function showStatus(status) {
  if (status.error) state.showNothing(status.error);
  else showFacts(status);
  if (heard) return;
  heard = true;
  drawCharts();
}

function showFacts(status) {
  for (const task of status.tasks) ofTask(task.name); // colours in the order of declaration
  for (const part of [state, accounting, matrix, tasks, senders, log]) part.show(status);
  link.heard(status);
  state.refreshAges();
}

new Feed({
  status: showStatus,
  point: (point) => {
    history.add(point);
    drawCharts();
  },
  history: (found) => {
    history.replace(found);
    drawCharts();
  },
  releases: (found) => {
    snapshots.show(found);
    classes.show(found);
  },
  link: link.connected,
}).start();

span.addEventListener("change", drawCharts);
setInterval(() => {
  state.refreshAges();
  link.refresh();
}, 1000);
setText(byId("zone"), `Times are in ${Intl.DateTimeFormat().resolvedOptions().timeZone}.`);
