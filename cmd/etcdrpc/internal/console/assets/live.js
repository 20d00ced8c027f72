// Follows what the page shows: at each event it asks for the page again, and changes what differs. The page works
// without it.
"use strict";

(() => {
	const retry = 2000;

	// touched has the forms that somebody has begun to fill in. They stay as they are, with the revision that they are
	// about, until they are sent or reset: what was typed and taken back again is typed too.
	const touched = new WeakSet();
	document.addEventListener("input", ({ target }) => target.form && touched.add(target.form));
	document.addEventListener("reset", ({ target }) => {
		touched.delete(target);
		refresh();
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

	// refresh asks for the page as it is now. One question is under way at a time; the last one asked is answered.
	let asking = false, again = false;
	async function refresh() {
		if (asking) {
			again = true;
			return;
		}
		asking = true;
		do {
			again = false;
			try {
				const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
				if (answer.redirected && new URL(answer.url).pathname === "/login") {
					location.reload();
					return;
				}
				const page = new DOMParser().parseFromString(await answer.text(), "text/html");
				// What is said instead of the page is shown above what is there: a service that goes takes nothing that was
				// typed with it.
				const instead = !document.querySelector("main > #instead") && page.getElementById("instead");
				if (instead) document.getElementById("trouble").replaceChildren(document.importNode(instead, true));
				for (const part of instead ? ["news"] : ["news", "main"]) {
					const have = document.getElementById(part), wanted = page.getElementById(part);
					if (have && wanted) morph(have, wanted);
				}
				const foot = document.querySelector("footer"), now = page.querySelector("footer");
				if (foot && now) morph(foot, now);
				bindSplits();
				document.documentElement.dataset.refreshed = String(Number(document.documentElement.dataset.refreshed || 0) + 1);
			} catch (error) {
				console.error(error);
				say("not connected", "off");
			}
		} while (again);
		asking = false;
	}

	const live = document.getElementById("live");
	function say(text, state) {
		if (!live) return;
		live.hidden = false;
		live.textContent = text;
		live.dataset.state = state;
	}

	// follow listens to events while the page is seen: a browser has few connections to one host, and pages that nobody
	// looks at would leave none to the others.
	let source = null, waiting = 0;
	function follow(path) {
		leave();
		if (document.hidden) return;
		source = new EventSource(path);
		source.onopen = () => say("live", "on");
		source.addEventListener("changed", refresh);
		source.addEventListener("beat", () => {
			say("live", "on");
			if (document.querySelector(".instances")) refresh();
		});
		source.onerror = () => {
			say("not connected", "off");
			if (source.readyState === EventSource.CLOSED) waiting = setTimeout(() => follow(path), retry);
		};
	}

	function leave() {
		clearTimeout(waiting);
		if (source) source.close();
	}

	// The page is asked for with what is typed into the filter, a moment after the last key.
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
			refresh();
		}, 120);
	});

	// A page whose form has written makes way for the one that it is about: who goes back is not to send a form again.
	let sent = false;
	document.addEventListener("submit", ({ target }) => {
		const leave = target.parentElement.querySelector(":scope > .leave");
		if (!leave) return;
		history.replaceState(null, "", leave.href);
		sent = true;
	});

	// bindSplits binds each slider to its number, and says what part of the calls that is. A number that is beyond the
	// sliders stretches them all.
	const told = new WeakMap();
	function bindSplits() {
		for (const form of document.querySelectorAll("form.split")) {
			if (told.has(form)) {
				told.get(form)();
				continue;
			}
			const tell = () => {
				const numbers = [...form.querySelectorAll("input[type=number]")];
				const sum = numbers.reduce((all, n) => all + (Number(n.value) || 0), 0);
				for (const n of numbers) {
					const share = sum > 0 ? 100 * (Number(n.value) || 0) / sum : 0;
					n.closest("fieldset").querySelector("output").textContent = share.toFixed(1) + "\u00a0%";
				}
			};
			form.addEventListener("input", (event) => {
				const box = event.target.closest("fieldset"), value = event.target.value;
				if (box && event.target.type === "range") box.querySelector("input[type=number]").value = value;
				if (box && event.target.type === "number") {
					for (const range of form.querySelectorAll("input[type=range]")) range.max = Math.max(range.max, value);
					box.querySelector("input[type=range]").value = value;
				}
				tell();
			});
			told.set(form, tell);
			tell();
		}
	}

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
	const events = document.body.dataset.events;
	if (events) {
		follow(events);
		document.addEventListener("visibilitychange", () => follow(events));
		addEventListener("pagehide", leave);
	}
	addEventListener("pageshow", ({ persisted }) => {
		if (!persisted) return;
		if (sent) location.reload();
		else if (events) follow(events);
	});
})();
