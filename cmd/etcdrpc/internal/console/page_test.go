package console

import (
	"cmp"
	"fmt"
	"html/template"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/doctor"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

func TestOverviewFilter(t *testing.T) {
	fleet := &Fleet{Services: []Summary{
		{Key: "acme/order", Text: "eu-1a\nv1\n10.0.0.7:9000", Counts: Counts{Registered: 2}, Traffic: Shared([]serviceconfig.Split{{Weight: 99}, {Weight: 1}})},
		{Key: "acme/user", Text: "eu-1a\neu-1b\nv2", Counts: Counts{Registered: 3, Drained: 1}, Policy: PolicyRefused},
		{Key: "Shop/Cart", Counts: Counts{Malformed: 1}},
	}}
	for show, want := range map[string]string{
		"": "acme/user acme/order Shop/Cart", "attention": "acme/user", "refused": "acme/user", "down": "Shop/Cart", "canary": "acme/order", "drained": "acme/user",
		"malformed": "Shop/Cart", "led": "", "none": "",
	} {
		p := newOverview(frame{Fleet: fleet}, url.Values{"show": {show}})
		if got := keysOf(p); got != want {
			t.Errorf("%q shows %q, not %q", show, got, want)
		}
	}
	p := newOverview(frame{Fleet: fleet}, url.Values{"show": {"drained"}})
	var told []string
	for _, fact := range p.Facts {
		told = append(told, fmt.Sprintf("%s %s %t", fact.Text, fact.Link, fact.On))
	}
	want := []string{"1 needs attention /?show=attention false", "1 config refused /?show=refused false", "1 service without a callable instance /?show=down false",
		"1 canary /?show=canary false", "1 instance drained / true", "1 entry malformed /?show=malformed false"}
	if !slices.Equal(told, want) {
		t.Errorf("the facts are %q", told)
	}
	for query, want := range map[string]string{
		"":              "acme/user acme/order Shop/Cart",
		"  ":            "acme/user acme/order Shop/Cart",
		"ACME":          "acme/user acme/order",
		"10.0.0.7":      "acme/order",
		"cart":          "Shop/Cart",
		"eu-1b":         "acme/user",
		"acme v1":       "acme/order",
		"acme v1 eu-1b": "",
	} {
		p := newOverview(frame{Fleet: fleet}, url.Values{"q": {query}})
		instances := 0
		for _, s := range p.Rows {
			instances += s.Counts.Total()
		}
		if got := keysOf(p); got != want || p.Instances != instances || p.Found != len(p.Rows) {
			t.Errorf("%q finds %q, %d with %d instances; want %q", query, got, p.Found, p.Instances, want)
		}
	}
}

func keysOf(p *overviewPage) string {
	var keys []string
	for _, s := range p.Rows {
		keys = append(keys, s.Key)
	}
	return strings.Join(keys, " ")
}

func TestPager(t *testing.T) {
	for _, c := range []struct{ rows, page, wantPage, from, to int }{
		{0, 0, 1, 0, 0}, {5, 1, 1, 0, 5}, {10, 1, 1, 0, 10}, {11, 2, 2, 10, 11}, {11, 99, 2, 10, 11}, {11, -3, 1, 0, 10},
	} {
		p := newPager(c.rows, 10, c.page, func(page string) string { return page })
		if p.Page != c.wantPage || p.from != c.from || p.to != c.to {
			t.Errorf("%+v: %+v", c, p)
		}
		if (p.Before != "") != (p.Page > 1) || (p.After != "") != (p.Page < p.Pages) {
			t.Errorf("%+v links to %q and %q", c, p.Before, p.After)
		}
	}
}

func TestServicePage(t *testing.T) {
	s := &Service{Editable: true, Summary: Summary{Key: "acme/user"}}
	for n := range instanceRows + 5 {
		s.Instances = append(s.Instances, Instance{ID: fmt.Sprint("i", n), EtcdKey: fmt.Sprint("k", n), State: survey.Registered, Lease: int64(1 + n%3)})
	}
	s.Instances[1].State, s.Instances[2].State, s.Instances[3].State = survey.Drained, survey.Leaving, survey.Malformed
	s.Instances[1].Listed = true
	p := newServicePage(frame{Fleet: &Fleet{}}, s, url.Values{})
	if got := p.undecided(); len(got) > 0 {
		t.Errorf("it depends on the leases %v who is shown", got)
	}
	p.choose(1)
	if len(p.Rows) != instanceRows || p.Pager.Pages != 2 {
		t.Fatalf("%d rows on %d pages", len(p.Rows), p.Pager.Pages)
	}
	if got := p.leaseIDs(); !slices.Equal(got, []int64{1, 2, 3}) {
		t.Errorf("it asks for the leases %v", got)
	}
	p.takeLeases(map[int64]survey.LeaseTime{1: {Left: 14, Granted: 15}, 2: {Left: 5, Granted: 15}})
	for n, want := range []struct {
		state  survey.State
		action string
		known  bool
	}{
		{survey.Registered, "drain", true}, {survey.Drained, "undrain", true}, {survey.Leaving, "", false}, {survey.Malformed, "", true}, {Expiring, "drain", true},
	} {
		if row := p.Rows[n]; row.State != want.state || row.Action != want.action || row.Known != want.known {
			t.Errorf("row %d: %s, %q, %t; want %+v", n, row.State, row.Action, row.Known, want)
		}
	}
	p.Findings.All = []doctor.Finding{{Kind: "a", Where: []string{"k1"}}, {Kind: "b", Where: []string{"k1", "k2"}}, {Kind: "c"}, {Kind: "d", Where: []string{"k204"}}}
	p.markFound()
	if !slices.Equal(p.Rows[1].Found, []string{"a", "b"}) || !slices.Equal(p.Rows[2].Found, []string{"b"}) || p.Rows[0].Found != nil {
		t.Errorf("beside the rows there are %v, %v and %v", p.Rows[0].Found, p.Rows[1].Found, p.Rows[2].Found)
	}
	if p := newServicePage(frame{Fleet: &Fleet{}, ReadOnly: true}, s, url.Values{}); p.found[0].Action != "" {
		t.Error("a console that only reads offers to drain")
	}
}

// A filter by a state goes by what is left of the leases, whatever page an instance would be on without it.
func TestFilterState(t *testing.T) {
	s := &Service{Summary: Summary{Key: "acme/user"}}
	add := func(i Instance) {
		i.ID, i.EtcdKey = fmt.Sprint("i", len(s.Instances)), fmt.Sprint("k", len(s.Instances))
		s.Instances = append(s.Instances, i)
	}
	leases := make(map[int64]survey.LeaseTime)
	for n := range int64(instanceRows) {
		add(Instance{State: survey.Registered, Lease: 1 + n})
		leases[1+n] = survey.LeaseTime{Left: 12, Granted: 15}
	}
	add(Instance{State: survey.Registered, Lease: 1001, Version: "v2"})
	add(Instance{State: survey.Registered})
	add(Instance{State: survey.Drained, Lease: 1001})
	leases[1001] = survey.LeaseTime{Left: 5, Granted: 15}
	for query, want := range map[string]struct{ asked, found int }{
		"":            {0, instanceRows + 3},
		"v2":          {0, 1},
		"i":           {0, instanceRows + 3},
		"expiring":    {instanceRows + 1, 1},
		"EXPIR v2":    {1, 1},
		"expiring v1": {0, 0},
		"registered":  {instanceRows + 1, instanceRows + 1},
		"drained":     {0, 1},
	} {
		p := newServicePage(frame{Fleet: &Fleet{}}, s, url.Values{"q": {query}})
		asked := p.undecided()
		if len(asked) > 0 {
			p.takeLeases(leases)
		}
		p.choose(1)
		if len(asked) != want.asked || p.Pager.N != want.found || p.Undecided != 0 {
			t.Errorf("%q asks for %d leases and finds %d, %d not decided; want %+v", query, len(asked), p.Pager.N, p.Undecided, want)
		}
		p.takeLeases(leases)
		if again := p.leaseIDs(); len(again) > 0 {
			t.Errorf("%q asks again for the leases %v", query, again)
		}
	}
	for n := range int64(filterLeases) {
		add(Instance{State: survey.Registered, Lease: 2000 + n})
	}
	p := newServicePage(frame{Fleet: &Fleet{}}, s, url.Values{"q": {"expiring"}})
	if n := len(p.undecided()); n != filterLeases || p.Undecided != instanceRows+1 {
		t.Errorf("it asks for %d leases, and %d are not decided", n, p.Undecided)
	}
}

// Shares in percent become weights in the same proportion, and a step moves one group, of which the others make way.
func TestReadWeights(t *testing.T) {
	for _, c := range []struct {
		typed, step, want string // "": it is refused
	}{
		{"10 90", "", "10 90"},
		{"33.3 66.7", "", "3330 6670"},
		{"0 0", "", "0 0"},
		{"10 90", "0:25", "25 75"},
		{"10 60 30", "0:100", "100 0 0"},
		{"10 60 30", "0:55", "55 30 15"},
		{"100 0 0", "0:40", "40 30 30"},
		{"4294967295 1", "", "4294967295 1"},
		{"4294967295.5 1", "", ""},
		{"x 1", "", ""}, {"-1 1", "", ""}, {"NaN 1", "", ""}, {"Inf 1", "", ""}, {"", "", "<nil>"},
		{"1 1", "2:5", ""}, {"1 1", "-1:5", ""}, {"1 1", "0:101", ""}, {"1 1", "x", ""},
	} {
		got, err := readWeights(strings.Fields(c.typed), c.step)
		if text := strings.Trim(fmt.Sprint(got), "[]"); c.want != "<nil>" && text != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%q, step %q: %v, %v; want %s", c.typed, c.step, got, err, c.want)
		}
	}
}

// Each text to begin with is a live config that clients go by.
func TestStarters(t *testing.T) {
	for _, s := range starters {
		if err := liveconfig.Check(s.Text); err != nil {
			t.Errorf("%s: %v", s.Name, err)
		}
	}
}

// A browser that takes in what it is sent shows what there is, whatever has come, gone and moved.
func TestSince(t *testing.T) {
	page := func(part string, keys ...string) *content {
		c := &content{parts: map[string]template.HTML{"count": template.HTML(part)}, table: "t"}
		for _, text := range keys {
			key, _, _ := strings.Cut(text, "=")
			c.rows = append(c.rows, tableRow{key, template.HTML(text)})
		}
		return c
	}
	var browser shown
	var rows []string
	for n, next := range []*content{
		page("1", "a=1", "b=1", "c=1"), page("1", "a=1", "b=1", "c=1"), page("2", "x=1", "a=1", "c=2"), page("2", "c=2", "a=1", "x=1", "d=1"), page("2"), page("2", "a=1"),
	} {
		sent := next.since(browser)
		browser = browser.merge(next.sums(), true)
		rows = taken(rows, sent)
		var want []string
		for _, row := range next.rows {
			want = append(want, string(row.html))
		}
		if !slices.Equal(rows, want) {
			t.Errorf("after %d the browser shows %q, not %q", n, rows, want)
		}
		if n == 1 && !sent.empty() {
			t.Errorf("of the same page it is sent %+v", sent)
		}
		if n == 2 && (sent.Parts["count"] != "2" || len(sent.Gone) != 1 || len(sent.Rows) > 3) {
			t.Errorf("it is sent %+v", sent)
		}
	}
}

// A row is sent whatever other key there is: these two have one sum by FNV-1a, and such are found for any key.
func TestSince_Collision(t *testing.T) {
	page := func(text template.HTML) *content {
		return &content{table: "t", rows: []tableRow{{id("8yn0iYCKYHlIj4-BwPqk"), text}, {id("GReLUrM4wMqfg9yzV3KQ"), "1"}}}
	}
	if sent := page("2").since(page("1").sums()); len(sent.Rows) != 1 || sent.Rows[0].HTML != "2" {
		t.Errorf("it is sent %+v", sent)
	}
}

// taken does to rows what the script does, of which each is "key=text".
func taken(rows []string, n *news) []string {
	at := func(key string) int {
		return slices.IndexFunc(rows, func(row string) bool { return strings.HasPrefix(row, key+"=") })
	}
	for _, key := range n.Gone {
		rows = slices.Delete(rows, at(key), at(key)+1)
	}
	for _, change := range n.Rows {
		text := string(change.HTML)
		if have := at(change.Key); have >= 0 {
			text = cmp.Or(text, rows[have])
			rows = slices.Delete(rows, have, have+1)
		}
		place := 0
		if change.After != "" {
			place = at(change.After) + 1
		}
		rows = slices.Insert(rows, place, text)
	}
	return rows
}

// A link leads to a page of the web, with the key in it as a value.
func TestLinks(t *testing.T) {
	for text, want := range map[string]string{
		"Grafana=https://g.example/d?var-service={key}&x=1": "https://g.example/d?var-service=acme%2Fuser%20%26&x=1",
		"Logs=http://logs/{key}":                            "http://logs/acme%2Fuser%20%26",
		"Bad=javascript:alert(1)":                           "",
		"https://nameless/{key}":                            "",
		"X=":                                                "",
	} {
		link, err := ParseLink(text)
		if (err != nil) != (want == "") || err == nil && linksTo([]Link{link}, "acme/user &")[0].URL != want {
			t.Errorf("%s: %v, %v", text, link, err)
		}
	}
}

func TestOutcome(t *testing.T) {
	for _, c := range []struct {
		address   string
		seen, now int64
		want      string
		stands    bool
	}{
		{"", 9, 7, "", false},
		{"written=7", 9, 7, "Written at revision 7.", true},
		{"written=7", 6, 5, "Written at revision 7, which is not seen here yet: this is revision 6 of etcd.", false},
		{"written=7", 9, 9, "Written at revision 7, and changed again since, at revision 9.", false},
		{"written=7", 7, 0, "The live config is removed.", false},
		{"written=0", 7, 0, "The live config is removed.", false}, // by somebody else, who was faster
	} {
		form, err := url.ParseQuery(c.address)
		if err != nil {
			t.Fatal(err)
		}
		got := outcome{}
		if o := newOutcome(form, c.seen, c.now); o != nil {
			got = *o
		}
		if got.Text != c.want || got.Stands != c.stands {
			t.Errorf("%q, seen up to %d, of revision %d now: %+v", c.address, c.seen, c.now, got)
		}
	}
}

func TestTexts(t *testing.T) {
	for _, c := range [][2]string{
		{list([]string{"a", "b"}), "a, b"},
		{list([]string{"a", "b", "c", "d", "e", "f"}), "a, b, c, d +2"},
		{list([]string{"\u202ea"}), `\u202ea`},
		{percent(-1), "–"},
		{percent(33.333), "33.3\u00a0%"},
		{lines("a\r\nb\x1b[2J\u202e"), "a\nb\\x1b[2J\\u202e"},
		{at("/", "q", ""), "/"},
		{at("/service", "key", "a b/<"), "/service?key=a+b%2F%3C"},
	} {
		if c[0] != c[1] {
			t.Errorf("got %q, not %q", c[0], c[1])
		}
	}
}

func TestCanary(t *testing.T) {
	group := func(name, value string, weight uint32) serviceconfig.Split {
		return serviceconfig.Split{Match: map[string]string{name: value}, Weight: weight}
	}
	for name, groups := range map[string][]serviceconfig.Split{
		"v2":     {group("version", "v1", 50), group("version", "v2", 50)},
		"v3":     {group("version", "v3", 60), group("version", "v2", 40)},
		"1.10.0": {group("version", "1.9.0", 0), group("version", "1.10.0", 100)},
		"7f3a":   {group("version", "7f3a", 1), group("version", "b21c", 99)},
		"blue":   {group("team", "blue", 1), group("team", "green", 9)},
		"v1":     {group("version", "v1", 1), group("version", "v2", 9), {Match: map[string]string{"version": "v2", "zone": "a"}, Weight: 5}},
	} {
		at := canary(Shared(groups))
		if got := groups[at].Match; got["version"] != name && got["team"] != name {
			t.Errorf("of %v steps move %v, want %s", groups, got, name)
		}
	}
}
