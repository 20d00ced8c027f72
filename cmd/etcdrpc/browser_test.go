package main

import (
	"context"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/network"
	tab "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/console"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// Where pictures of the console are written to, by the scheme of their colours.
var screenshots = map[string]*string{
	"light": flag.String("screenshots", "", "write pictures of the console to this `directory`"),
	"dark":  flag.String("dark-screenshots", "", "write pictures of the console in dark colours to this `directory`"),
}

// axe is a script that finds what keeps people from using a page.
var axe = flag.String("axe", "", "check the pages with the axe-core in this `file`")

// browser is one tab of a real browser.
type browser struct {
	*served
	ctx context.Context

	mu       sync.Mutex
	requests []string // of all that the tab asked for
	dialogs  int      // scripts that were run by what is in etcd would open some
}

// openBrowser opens a page of a console in a tab of the given width. Without a browser the test is skipped.
func openBrowser(t *testing.T, s *served, width int64, scripts bool) *browser {
	t.Helper()
	night(t)
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Skip("there is no Chromium here")
	}
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.NoFirstRun, chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("hide-scrollbars", true), chromedp.WSURLReadTimeout(time.Minute),
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Minute)
	t.Cleanup(cancel)
	ctx, closeBrowser := chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(closeBrowser)
	ctx, closeTab := chromedp.NewContext(ctx)
	t.Cleanup(func() {
		defer closeTab()
		// All of its processes have to end before its directory is removed.
		if err := chromedp.Cancel(ctx); err != nil {
			t.Errorf("close the browser: %v", err)
		}
		chromedp.FromContext(ctx).Allocator.Wait()
	})
	b := &browser{served: s, ctx: ctx}
	chromedp.ListenTarget(ctx, func(event any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch event := event.(type) {
		case *network.EventRequestWillBeSent:
			b.requests = append(b.requests, event.Request.URL)
		case *runtime.EventConsoleAPICalled:
			for _, arg := range event.Args {
				t.Logf("the script says: %s %s", arg.Value, arg.Description)
			}
		case *runtime.EventExceptionThrown:
			t.Errorf("the script fails: %s", event.ExceptionDetails.Error())
		case *tab.EventJavascriptDialogOpening:
			b.dialogs++
		}
	})
	if err := chromedp.Run(ctx); err != nil { // the browser lives as long as the context of its first run
		t.Fatal(err)
	}
	b.run(network.Enable(), runtime.Enable(), tab.Enable(), emulation.SetScriptExecutionDisabled(!scripts), b.size(width, 800))
	return b
}

// openShop opens the console of a shop, whose service acme/user has a live config unless that is "".
func openShop(t *testing.T, config string) (*browser, *etcdtest.Cluster) {
	t.Helper()
	s := newShop(t, console.Options{})
	if config != "" {
		putConfig(t, s.etcd, "acme/user", config)
	}
	return openBrowser(t, s, 1280, true), s.etcd
}

func (b *browser) size(width, height int64) chromedp.Action {
	return emulation.SetDeviceMetricsOverride(width, height, 1, width < 500)
}

func (b *browser) run(actions ...chromedp.Action) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		b.t.Fatalf("%v; the page is:\n%.4000s", err, b.text())
	}
}

// text returns what the page says.
func (b *browser) text() string {
	var text string
	if err := chromedp.Run(b.ctx, chromedp.Text("body", &text, chromedp.ByQuery)); err != nil {
		return err.Error()
	}
	return text
}

func (b *browser) open(path string) {
	b.t.Helper()
	b.run(chromedp.Navigate(b.url+path), chromedp.WaitReady("footer", chromedp.ByQuery))
}

// until waits until an expression is true on the page.
func (b *browser) until(expression string) {
	b.t.Helper()
	b.run(chromedp.Poll(expression, nil, chromedp.WithPollingInterval(10*time.Millisecond), chromedp.WithPollingTimeout(soon)))
}

// eval returns the value of an expression on the page.
func eval[T any](b *browser, expression string) (value T) {
	b.t.Helper()
	b.run(chromedp.Evaluate(expression, &value))
	return value
}

func (b *browser) openService(key string) {
	b.t.Helper()
	b.open("/service?key=" + url.QueryEscape(key))
}

// checkOrigin fails if the tab asked another host for something.
func (b *browser) checkOrigin() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, asked := range b.requests {
		if !strings.HasPrefix(asked, b.url+"/") && !strings.HasPrefix(asked, "data:") && !strings.HasPrefix(asked, "chrome") {
			b.t.Errorf("the page asks for %s", asked)
		}
	}
	if len(b.requests) == 0 || b.dialogs > 0 {
		b.t.Errorf("%d requests, %d dialogs", len(b.requests), b.dialogs)
	}
}

// typing puts a text into the editor of the live config.
func typing(text string) chromedp.Action {
	return chromedp.Tasks{chromedp.Click(".editor summary", chromedp.ByQuery), chromedp.SetValue("#text", text, chromedp.ByID)}
}

const isLive = `document.querySelector("#live").dataset.state === "on"`

const hasRow = `document.querySelector("#services").rows.length`

func TestBrowserFollows(t *testing.T) {
	b, etcd := openShop(t, "")
	b.open("/")
	b.until(isLive)

	// The key "/" goes to the filter, and what is typed there changes the rows and the address.
	b.run(input.DispatchKeyEvent(input.KeyDown).WithKey("/").WithText("/"), input.DispatchKeyEvent(input.KeyUp).WithKey("/"))
	b.until(`document.activeElement.id === "q"`)
	b.run(chromedp.KeyEvent("order"))
	b.until(hasRow + ` === 1`)
	b.until(`location.search === "?q=order"`)

	// A change comes by itself, and takes neither the focus nor what is typed.
	put := time.Now()
	putKey(t, etcd, "acme/order-more/10.0.0.1:1", "10.0.0.1:1")
	b.until(hasRow + ` === 2`)
	t.Logf("a change was on the screen after %v", time.Since(put))
	if got := eval[string](b, `document.activeElement.id + ":" + document.activeElement.value`); got != "q:order" {
		t.Errorf("the focus and its text are %s", got)
	}

	b.openService("acme/user")
	b.until(isLive)
	b.run(chromedp.Click(`.instances details summary`, chromedp.ByQuery), typing(`{"mine": 1}`))
	putKey(t, etcd, "acme/user/10.0.0.99:1", "10.0.0.99:1")
	putConfig(t, etcd, "acme/user", weighted)
	b.until(`document.querySelector("#instances").innerText.includes("10.0.0.99:1") && document.querySelector("#split").innerText.includes("Check the split")`)
	if got := eval[string](b, `document.querySelector("#text").value`); got != `{"mine": 1}` {
		t.Errorf("what was typed has become %s", got)
	}
	if !eval[bool](b, `document.querySelector(".instances details").open`) {
		t.Error("what was opened is closed")
	}
	b.checkOrigin()
}

// A service that goes, and comes again, takes nothing that was typed with it.
func TestBrowserKeepsTextOfWhatIsGone(t *testing.T) {
	b, etcd := openShop(t, "")
	b.openService("acme/order")
	b.until(isLive)
	b.run(typing(`{"mine": 1}`))
	deleteKey(t, etcd, "acme/order", clientv3.WithPrefix())
	b.until(`document.body.innerText.includes("nothing is registered here")`)
	putKey(t, etcd, "acme/order/10.0.0.7:9001", "10.0.0.7:9001")
	b.until(`!document.body.innerText.includes("nothing is registered here")`)
	if got := eval[string](b, `document.querySelector("#text").value`); got != `{"mine": 1}` {
		t.Errorf("what was typed has become %s", got)
	}

	// A page of nothing becomes that of a service which comes, with a filter that filters.
	b.openService("acme/late")
	b.until(`document.querySelector("#live").dataset.state === "on" && document.querySelector("#q") === null`)
	putKey(t, etcd, "acme/late/10.0.0.7:9001", "10.0.0.7:9001")
	b.run(chromedp.SetValue("#q", "none", chromedp.ByID))
	b.until(`document.body.innerText.includes("No instance matches")`)
}

// Forms follow the live config until somebody fills them in, though that be taken back: then they keep their revision,
// and the operator is told that it is an old one.
func TestBrowserKeepsRevision(t *testing.T) {
	b, etcd := openShop(t, weighted)
	b.openService("acme/user")
	b.until(isLive)
	const shown = `[...document.querySelectorAll(".split fieldset input:not([type=hidden])")].map((e) => e.value || e.textContent).join(" ")`

	b.run(chromedp.Focus(`button[aria-label="drain 10.0.0.8:9000"]`, chromedp.ByQuery))
	putConfig(t, etcd, "acme/user", strings.NewReplacer(`"weight":10`, `"weight":40`, `"weight":90`, `"weight":60`, `"split"`, `"drain":["10.0.0.8:9000"],"split"`).Replace(weighted))
	b.until(shown + " === `40 40 60 60`")
	b.until(`document.querySelector("#text").value.includes("60")`)
	if got := eval[string](b, `document.activeElement.ariaLabel + ": " + document.activeElement.innerText`); got != "undrain 10.0.0.8:9000: undrain" {
		t.Errorf("the focus is on %q", got)
	}

	begin := func() {
		b.run(chromedp.Click(".editor summary", chromedp.ByQuery))
		b.run(chromedp.Focus("#text", chromedp.ByID), chromedp.KeyEvent("x"), chromedp.KeyEvent(kb.Backspace))
		b.run(chromedp.Focus(".split input[type=range]", chromedp.ByQuery), chromedp.KeyEvent(kb.ArrowRight), chromedp.KeyEvent(kb.ArrowLeft), chromedp.Focus("#q", chromedp.ByID))
	}
	for n, form := range []string{"split", "policy"} {
		begin()
		putConfig(t, etcd, "acme/user", strings.ReplaceAll(weighted, "90", strconv.Itoa(80+n)))
		b.until(fmt.Sprintf(`document.querySelector("form[data-k=%s]").innerText.includes("has changed since you began")`, form))
		b.run(chromedp.Click(fmt.Sprintf(`form[data-k=%s] .buttons button`, form), chromedp.ByQuery), chromedp.WaitVisible(`[role="alert"]`, chromedp.ByQuery))
		if text := b.text(); !strings.Contains(text, "Someone else has changed") {
			t.Errorf("%s: the page says:\n%s", form, text)
		}
		b.openService("acme/user")
		b.until(isLive)
	}
	begin()
	putConfig(t, etcd, "acme/user", strings.ReplaceAll(weighted, "90", "70"))
	b.run(chromedp.Click(`form.old[data-k="policy"] button[type="reset"]`, chromedp.ByQuery))
	b.until(`document.querySelector("#text").value.includes("70")`)
}

// While etcd is silent no page says that it is live, and a banner says why.
func TestBrowserSilentEtcd(t *testing.T) {
	b, etcd := openShop(t, "")
	b.openService("acme/user")
	b.until(isLive)
	etcd.Stop()
	b.until(`document.querySelector("#live").dataset.state === "off" && document.querySelector("#trouble").innerText.includes("What is shown may be old")`)
	if got := eval[string](b, `document.querySelector("#live").textContent`); got != "etcd is silent" {
		t.Errorf("it says %q", got)
	}
	if err := etcd.Restart(); err != nil {
		t.Fatal(err)
	}
	b.until(isLive + ` && document.querySelector("#trouble").innerText === ""`)
}

// What was refused stays as it was typed, and can be sent otherwise.
func TestBrowserKeepsRefused(t *testing.T) {
	b, etcd := openShop(t, weighted)
	b.openService("acme/user")
	b.until(isLive)
	b.run(chromedp.SetValue("#weight-0", "12.5", chromedp.ByID))
	etcd.Stop()
	b.run(chromedp.Click(".split .buttons button", chromedp.ByQuery), chromedp.WaitVisible(".begun", chromedp.ByQuery))
	if got := eval[string](b, `[...document.querySelectorAll(".begun [type=number]")].map((e) => e.value).join(" ")`); got != "12.5 87.5" {
		t.Errorf("what was typed has become %q", got)
	}
	events := b.listen(t.Context(), "/")
	silent := func(want bool) {
		t.Helper()
		for {
			if _, page := b.get("/"); strings.Contains(page, "data-silent") == want {
				return
			}
			await(t, events, "news")
		}
	}
	silent(true)
	if err := etcd.Restart(); err != nil {
		t.Fatal(err)
	}
	silent(false)
	b.run(chromedp.Click(".begun button", chromedp.ByQuery), chromedp.WaitVisible(".diff", chromedp.ByQuery))
}

// A browser has few connections to one host: tabs that nobody sees leave them to the others.
func TestBrowserManyTabs(t *testing.T) {
	b, etcd := openShop(t, "")
	hide := func(b *browser, hidden bool) {
		eval[any](b, fmt.Sprintf(`(() => { Object.defineProperty(document, "hidden", {value: %t, configurable: true}); document.dispatchEvent(new Event("visibilitychange")); })()`, hidden))
	}
	for range 8 {
		ctx, closeTab := chromedp.NewContext(b.ctx)
		t.Cleanup(closeTab)
		other := &browser{served: b.served, ctx: ctx}
		if err := chromedp.Run(ctx); err != nil {
			t.Fatal(err)
		}
		other.open("/")
		other.until(`document.querySelector("#live").dataset.state === "on"`)
		hide(other, true)
	}
	if err := chromedp.Run(b.ctx, tab.BringToFront()); err != nil {
		t.Fatal(err)
	}
	b.open("/")
	b.until(isLive)

	// One that is seen again shows what has changed meanwhile.
	hide(b, true)
	putKey(t, etcd, "acme/late/10.0.0.1:1", "10.0.0.1:1")
	hide(b, false)
	b.until(`document.querySelector("#services").innerText.includes("acme/late")`)
}

func TestBrowserDrains(t *testing.T) {
	etcd := etcdtest.Start(t)
	shop(t, etcd)
	for _, scripts := range []bool{true, false} {
		t.Run(fmt.Sprintf("scripts=%t", scripts), func(t *testing.T) {
			deleteKey(t, etcd, survey.ConfigPrefix+"acme/user")
			b := openBrowser(t, serveConsole(t, etcd, console.Options{}), 1280, scripts)
			b.openService("acme/user")
			b.run(chromedp.Click(`button[aria-label="drain 10.0.0.8:9000"]`, chromedp.ByQuery), chromedp.WaitVisible(".diff .plus", chromedp.ByQuery))
			if got := liveConfigAt(t, etcd, "acme/user"); got != "" {
				t.Fatalf("before it was confirmed, etcd has %s", got)
			}
			b.run(chromedp.Click(`form[action^="/apply"] button`, chromedp.ByQuery), chromedp.WaitVisible(`button[aria-label="undrain 10.0.0.8:9000"]`, chromedp.ByQuery))
			if got := liveConfigAt(t, etcd, "acme/user"); !strings.Contains(got, `"drain":["10.0.0.8:9000"]`) {
				t.Errorf("etcd has %s", got)
			}
			if !strings.Contains(b.text(), "Written at revision") {
				t.Errorf("the page does not say that it was written:\n%s", b.text())
			}
			if scripts {
				// It says so for as long as that is the last word. Back from there, nothing is sent again.
				putConfig(t, etcd, "acme/user", weighted)
				b.until(`document.querySelector("#outcome").innerText.includes("changed again since") && !document.querySelector(".note.good")`)
				eval[any](b, `history.back()`)
				b.run(chromedp.WaitNotPresent("#outcome p", chromedp.ByQuery), chromedp.WaitVisible(".instances", chromedp.ByQuery))
				if got := eval[string](b, `location.pathname + location.search`); got != "/service?key=acme%2Fuser" {
					t.Errorf("the way back leads to %s", got)
				}
			}
			b.checkOrigin()
		})
	}
}

func TestBrowserSplits(t *testing.T) {
	b, etcd := openShop(t, weighted)
	b.openService("acme/user")
	const shown = `[...document.querySelectorAll(".split fieldset input:not([type=hidden])")].map((e) => e.value).join(" ")`
	b.until(shown + ` === "10 10 90 90"`)
	// The sliders and the numbers are one, and what one group has the others lack.
	eval[any](b, `(() => { const r = document.querySelector(".split input[type=range]"); r.value = 25.5; r.dispatchEvent(new Event("input", {bubbles: true})); })()`)
	if got := eval[string](b, shown); got != "25.5 25.5 74.5 74.5" {
		t.Errorf("the slider makes %q", got)
	}
	b.run(chromedp.SetValue("#weight-1", "", chromedp.ByID), chromedp.SendKeys("#weight-1", "40", chromedp.ByID))
	if got := eval[string](b, shown); got != "60 60 40 40" {
		t.Errorf("the number makes %q", got)
	}
	b.run(chromedp.Click(".split .buttons button", chromedp.ByQuery), chromedp.WaitVisible(".shares", chromedp.ByQuery))
	b.run(chromedp.Click(`form[action^="/apply"] button`, chromedp.ByQuery), chromedp.WaitVisible(".note.good", chromedp.ByQuery))
	if got := liveConfigAt(t, etcd, "acme/user"); !strings.Contains(got, `"weight":60`) {
		t.Errorf("etcd has %s", got)
	}
	// A step moves the newest version, which has more than half by now, and what was written can be undone.
	for _, step := range []struct{ click, want string }{
		{`.steps button[value="0:5"]`, `"weight":5},{"match":{"version":"v1"},"weight":95}`},
		{`.note.good button`, `"weight":60},{"match":{"version":"v1"},"weight":40}`},
		{`.steps button[value="0:100"]`, `"weight":100},{"match":{"version":"v1"},"weight":0}`},
	} {
		b.run(chromedp.Click(step.click, chromedp.ByQuery), chromedp.WaitVisible(".diff", chromedp.ByQuery),
			chromedp.Click(`form[action^="/apply"] button`, chromedp.ByQuery), chromedp.WaitVisible(".note.good", chromedp.ByQuery))
		if got := liveConfigAt(t, etcd, "acme/user"); !strings.Contains(got, step.want) {
			t.Errorf("%s: etcd has %s", step.click, got)
		}
	}
}

// The first press of Tab shows the way to the content, and what has the focus is seen.
func TestBrowserKeyboard(t *testing.T) {
	b, _ := openShop(t, "")
	b.openService("acme/user")
	b.run(chromedp.KeyEvent("\t"))
	if got := eval[string](b, `document.activeElement.className + " " + getComputedStyle(document.activeElement).outlineStyle`); got != "skip solid" {
		t.Errorf("Tab goes to %s", got)
	}
	b.run(chromedp.KeyEvent("\r"))
	b.until(`location.hash === "#main"`)
	unlabelled := eval[string](b, `[...document.querySelectorAll("input:not([type=hidden]), textarea, select")]
		.filter((e) => !e.labels.length && !e.getAttribute("aria-label")).map((e) => e.outerHTML).join()`)
	if unlabelled != "" {
		t.Errorf("without a label: %s", unlabelled)
	}
}

// Names that would run scripts or break the page are shown as text.
func TestBrowserHostile(t *testing.T) {
	etcd := etcdtest.Start(t)
	hostileWorld(t, etcd)
	evil := `"><img src=x onerror=alert(1)><script>alert(1)</script>`
	putKey(t, etcd, "acme/user/"+evil, fmt.Sprintf(`{"Addr":"10.0.0.1:1","Metadata":{"version":%q}}`, evil))
	b := openBrowser(t, serveConsole(t, etcd, console.Options{}), 320, true)
	for _, path := range []string{"/", "/service?key=acme%2Fuser", "/history?key=acme%2Fuser", "/?q=" + url.QueryEscape(evil)} {
		b.open(path)
		b.checkWidth(path, 320)
		if n := eval[int](b, `document.querySelectorAll("img, script:not([src='/assets/live.js'])").length`); n > 0 {
			t.Errorf("%s: %d elements are etcd's", path, n)
		}
	}
	b.openService("acme/user")
	b.until(isLive)
	refreshed := eval[string](b, `document.documentElement.dataset.refreshed || ""`)
	putKey(t, etcd, "acme/user/"+evil+"2", "10.0.0.2:1")
	b.until(fmt.Sprintf(`(document.documentElement.dataset.refreshed || "") !== %q`, refreshed))
	if n := eval[int](b, `document.querySelectorAll("img, script:not([src='/assets/live.js'])").length`); n > 0 {
		t.Errorf("%d elements came with a change", n)
	}
	b.checkOrigin()
}

// checkWidth fails if the page can be scrolled sideways.
func (b *browser) checkWidth(what string, width int64) {
	b.t.Helper()
	if got := eval[string](b, `document.documentElement.scrollWidth + " of " + innerWidth`); got != fmt.Sprintf("%[1]d of %[1]d", width) {
		wide := eval[string](b, `[...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > innerWidth + 1).slice(0, 5).map((e) => e.tagName + "." + e.className).join()`)
		b.t.Errorf("%s is %s wide: %s", what, got, wide)
	}
}

// TestBrowserPictures looks at all pages, wide and narrow, light and dark, and takes pictures of them for -screenshots.
func TestBrowserPictures(t *testing.T) {
	etcd := etcdtest.Start(t)
	showcase(t, etcd)
	s := serveConsole(t, etcd, console.Options{})
	s.settled("acme/user", "malformed JSON")
	for _, width := range []int64{1440, 768, 360} {
		b := openBrowser(t, s, width, true)
		for _, scheme := range []string{"light", "dark"} {
			b.run(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}))
			b.open("/")
			b.picture("overview", width, scheme)
			b.openService("acme/user")
			b.until(`document.querySelector("#wrong").innerText.includes("Looked at")`)
			b.picture("service", width, scheme)
			b.run(chromedp.Click(`button[aria-label="drain 10.0.0.8:9000"]`, chromedp.ByQuery), chromedp.WaitVisible(".shares", chromedp.ByQuery))
			b.picture("confirm", width, scheme)
		}
		b.checkOrigin()
	}
}

// picture checks the page that is shown, and takes a picture of it if that is wanted.
func (b *browser) picture(name string, width int64, scheme string) {
	b.t.Helper()
	b.checkWidth(name, width)
	if width < 500 { // the narrowest that pages have to fit
		b.run(b.size(320, 800))
		b.checkWidth(name, 320)
		b.run(b.size(width, 800))
	}
	b.accessible(name + ", " + scheme)
	directory := *screenshots[scheme]
	if directory == "" {
		return
	}
	height := min(eval[int64](b, `Math.ceil(document.querySelector("footer").getBoundingClientRect().bottom + scrollY)`), 1200)
	var raw []byte
	b.run(b.size(width, height), chromedp.CaptureScreenshot(&raw), b.size(width, 800))
	switch {
	case width < 500:
		name += "-narrow"
	case width < 1000:
		name += "-tablet"
	}
	if err := os.WriteFile(filepath.Join(directory, name+".png"), raw, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// accessible fails for each rule of axe-core that the page breaks, if that is asked for.
func (b *browser) accessible(what string) {
	b.t.Helper()
	if *axe == "" {
		return
	}
	script, err := os.ReadFile(*axe)
	if err != nil {
		b.t.Fatal(err)
	}
	eval[any](b, string(script)+"; undefined")
	var broken string
	b.run(chromedp.Evaluate(`axe.run().then(({violations}) => violations.map((v) => v.id + ": " + v.nodes.map((n) => n.html).slice(0, 3).join(" ")).join("\n"))`, &broken,
		func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
	if broken != "" {
		b.t.Errorf("%s: %s", what, broken)
	}
}

// showcase fills etcd with what one may see on a busy day.
func showcase(t *testing.T, etcd *etcdtest.Cluster) {
	t.Helper()
	lease := granted(t, etcd, 600)
	for s, name := range []string{"acme/billing", "acme/cart", "acme/order", "acme/search", "acme/user", "shop/checkout", "shop/stock"} {
		for i := range 3 + 2*s%5 {
			addr := fmt.Sprintf("10.0.%d.%d:9000", s%4, i+5)
			version := "v1.8.2"
			if i == 0 {
				version = "v1.9.0"
			}
			putKey(t, etcd, name+"/"+addr, fmt.Sprintf(`{"Addr":%q,"Metadata":{"version":%q,"zone":"eu-1%c","weight":100,"team":"%s"}}`, addr, version, 'a'+rune(i%3), "blue"), lease)
		}
	}
	putKey(t, etcd, "acme/user/10.0.0.30:9000", `{"Addr":"10.0.0.30:9000","Metadata":{"version":"v1.8.2","zone":"eu-1b","weight":100,"grpc_leaving":"true"}}`, lease)
	putKey(t, etcd, "acme/user/10.0.0.31:9000", `{"Addr":"10.0.0.31`, lease)
	putKey(t, etcd, "acme/user/10.0.0.40:9000", `{"Addr":"10.0.0.40:9000","Metadata":{"version":"v1.9.0","zone":"eu-1b","weight":100}}`)
	putConfig(t, etcd, "acme/user", `{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"etcd_weighted":{}}],"drain":["10.0.0.7:9000"],"split":[{"match":{"version":"v1.9.0"},"weight":10},{"match":{"version":"v1.8.2"},"weight":90}]}}]}`)
	putConfig(t, etcd, "shop/stock", `{"loadBalancingConfig":[{"round_robbin":{}}]}`)
}
