// Follows what the page shows: it is sent what differs, and changes that. The page works without it.
"use strict";

(() => {
	const retry = 2000;

	// touched has the forms that somebody has begun to fill in. They stay as they are, with the revision that they are
	// about, until they are sent or reset: what was typed and taken back again is typed too.
	const touched = new WeakSet();
	document.addEventListener("input", ({ target }) => target.form && touched.add(target.form));
	document.addEventListener("reset", ({ target }) => {
		touched.delete(target);
		version = "";
		follow();
	});

	// morph makes the children of one element those of another, and keeps the elements that stay: the focus, the place
	// scrolled to, what is open and what is typed.
	function morph(from, to) {
		const keyed = new Map();
		for (const child of from.children) {
			if (child.dataset.k !== undefined) keyed.set(child.dataset.k, child);
		}
		const staying = new Set([...to.children].map((child) => child.dataset.k));
		let at = from.firstChild;
		const drop = () => {
			const gone = at;
			at = at.nextSibling;
			gone.remove();
		};
		for (const wanted of [...to.childNodes]) {
			let have = at;
			const key = wanted.dataset && wanted.dataset.k;
			if (key !== undefined && keyed.has(key)) {
				have = keyed.get(key);
				// What has the focus loses it when it is moved: rather what stands before it goes.
				while (at && at !== have && !(at.dataset && at.dataset.k !== undefined && staying.has(at.dataset.k))) drop();
				if (have !== at) from.insertBefore(have, at);
				else at = at.nextSibling;
			} else if (!have || have.nodeType !== wanted.nodeType || have.nodeName !== wanted.nodeName ||
				(have.dataset && have.dataset.k !== key) || (have.id || "") !== (wanted.id || "")) {
				from.insertBefore(document.importNode(wanted, true), at);
				continue;
			} else {
				at = at.nextSibling;
			}
			patch(have, wanted);
		}
		while (at) drop();
	}

	function patch(have, wanted) {
		if (have.nodeType !== Node.ELEMENT_NODE) {
			if (have.nodeValue !== wanted.nodeValue) have.nodeValue = wanted.nodeValue;
			return;
		}
		if (have.isEqualNode(wanted)) return;
		if (touched.has(have)) {
			have.classList.toggle("old", revision(have) !== revision(wanted));
			return;
		}
		for (const { name } of [...have.attributes]) {
			if (!wanted.hasAttribute(name) && !(name === "open" && have.tagName === "DETAILS")) have.removeAttribute(name);
		}
		for (const { name, value } of [...wanted.attributes]) {
			if (have.getAttribute(name) !== value) have.setAttribute(name, value);
		}
		morph(have, wanted);
		if (have.matches("input, textarea")) have.value = have.defaultValue;
	}

	// revision returns that of the live config which a form is about.
	function revision(form) {
		return form.elements.revision && form.elements.revision.value;
	}

	// part puts HTML in the place of what an element has.
	function part(element, html) {
		const wanted = element.cloneNode(false);
		wanted.innerHTML = html;
		morph(element, wanted);
	}

	// rows takes in what a table has otherwise. Each row that is told of stands behind the one that it names.
	function takeRows({ table, whole, gone = [], rows = [] }) {
		const body = document.getElementById(table);
		if (!body) return;
		const at = (key) => body.querySelector(`:scope > [data-k="${CSS.escape(key)}"]`);
		for (const key of gone) at(key)?.remove();
		if (whole) {
			const kept = new Set(rows.map(({ key }) => key));
			for (const row of [...body.children]) if (!kept.has(row.dataset.k)) row.remove();
		}
		for (const { key, after, html } of rows) {
			let row = at(key);
			if (html) {
				const wanted = document.createElement("tbody");
				wanted.innerHTML = html;
				if (row) patch(row, wanted.firstElementChild);
				else row = wanted.firstElementChild;
			}
			const before = after ? at(after) : null;
			const place = before ? before.nextElementSibling : body.firstElementChild;
			if (row && row !== place) body.insertBefore(row, place);
		}
	}

	// take takes in what the page shows otherwise.
	function take(news) {
		for (const [id, html] of Object.entries(news.parts || {})) {
			const element = document.getElementById(id);
			if (element) part(element, html);
		}
		takeRows(news);
		tell();
		bindSplits();
		localTimes(document);
		document.documentElement.dataset.refreshed = String(Number(document.documentElement.dataset.refreshed || 0) + 1);
	}

	// localTimes shows times as the reader's clock does, with its zone.
	const clock = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
	function localTimes(within) {
		for (const time of within.querySelectorAll("time")) time.textContent = clock.format(new Date(time.dateTime));
	}

	const live = document.getElementById("live");
	function say(text, state) {
		if (!live) return;
		live.hidden = false;
		live.textContent = text;
		live.dataset.state = state;
	}

	// tell says whether what is shown is what is there: not while etcd is silent.
	function tell() {
		if (document.querySelector("[data-silent]")) say("etcd is silent", "off");
		else say("live", "on");
	}

	// follow listens to events while the page is seen: a browser has few connections to one host, and pages that nobody
	// looks at would leave none to the others. A console that is silent for two heartbeats is not there.
	const silence = 12000;
	let source = null, waiting = 0, watchdog = 0, page = location.pathname + location.search, version = document.body.dataset.version;
	function follow() {
		leave();
		if (document.hidden) return;
		source = new EventSource("/events?" + new URLSearchParams({ at: page, since: version }));
		version = ""; // what is shown from now on is of another one
		const heard = () => {
			clearTimeout(watchdog);
			watchdog = setTimeout(() => say("not connected", "off"), silence);
		};
		source.addEventListener("news", ({ data }) => {
			heard();
			take(JSON.parse(data));
		});
		source.addEventListener("beat", () => {
			heard();
			tell();
		});
		source.addEventListener("reload", () => location.reload());
		source.onerror = () => {
			say("not connected", "off");
			leave();
			waiting = setTimeout(again, retry);
		};
	}

	// again follows once more, after an error that may be a session that has ended.
	async function again() {
		try {
			const answer = await fetch("/", { method: "HEAD" });
			if (answer.redirected || answer.status === 401) {
				location.reload();
				return;
			}
		} catch {
			waiting = setTimeout(again, retry);
			return;
		}
		follow();
	}

	function leave() {
		clearTimeout(waiting);
		clearTimeout(watchdog);
		if (source) source.close();
	}

	// The page is followed with what is typed into the search, a moment after the last key.
	let typed = 0;
	document.addEventListener("input", ({ target }) => {
		if (target.id !== "q") return;
		clearTimeout(typed);
		typed = setTimeout(() => {
			const url = new URL(location.href);
			if (target.value) url.searchParams.set("q", target.value);
			else url.searchParams.delete("q");
			url.searchParams.delete("page");
			history.replaceState(null, "", url);
			page = url.pathname + url.search;
			follow();
		}, 120);
	});

	// A page whose form has written makes way for the one that it is about: who goes back is not to send a form again.
	let sent = false;
	document.addEventListener("submit", ({ target }) => {
		const leave = target.querySelector(".leave");
		if (!leave) return;
		history.replaceState(null, "", leave.href);
		sent = true;
	});

	// bindSplits binds the sliders and the numbers of a split, which are percent of the calls: where one is moved the others
	// share the rest in the proportion that they had.
	const bound = new WeakSet();
	function bindSplits() {
		for (const form of document.querySelectorAll(".split")) {
			if (bound.has(form)) continue;
			bound.add(form);
			form.addEventListener("input", ({ target }) => {
				const box = target.closest("fieldset");
				if (!box) return;
				const boxes = [...form.querySelectorAll("fieldset")].map((box) => ({ box, number: box.querySelector("[type=number]"), range: box.querySelector("[type=range]") }));
				const moved = boxes.find((each) => each.box === box), others = boxes.filter((each) => each !== moved);
				const value = Math.min(Math.max(Number(target.value) || 0, 0), 100), sum = others.reduce((all, { range }) => all + Number(range.value), 0);
				for (const { number, range } of others) {
					const share = sum > 0 ? Number(range.value) * (100 - value) / sum : (100 - value) / others.length;
					range.value = share;
					number.value = Math.round(share * 100) / 100;
				}
				if (target !== moved.number) moved.number.value = value;
				moved.range.value = value;
			});
		}
	}

	// A text to begin with takes the place of what is in the editor. The browser can undo it.
	document.addEventListener("click", ({ target }) => {
		if (!target.dataset || target.dataset.text === undefined) return;
		const text = target.form.querySelector("textarea");
		text.focus();
		text.select();
		document.execCommand("insertText", false, target.dataset.text);
	});

	addEventListener("keydown", (event) => {
		const typing = event.target.closest && event.target.closest("input, textarea, select");
		const q = document.getElementById("q");
		if (event.key === "/" && !typing && q && !event.ctrlKey && !event.metaKey && !event.altKey) {
			event.preventDefault();
			q.focus();
			q.select();
		}
	});
	document.documentElement.classList.add("scripted");
	bindSplits();
	localTimes(document);
	const follows = version !== undefined;
	if (follows) {
		follow();
		document.addEventListener("visibilitychange", follow);
		addEventListener("pagehide", leave);
	}
	addEventListener("pageshow", ({ persisted }) => {
		if (!persisted) return;
		if (sent) location.reload();
		else if (follows) follow();
	});
})();
