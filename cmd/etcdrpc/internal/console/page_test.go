package console

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

func TestOverviewFilter(t *testing.T) {
	fleet := &Fleet{Services: []Summary{
		{Key: "acme/order", Zones: []string{"eu-1a"}, Versions: []string{"v1"}, Counts: Counts{Registered: 2}},
		{Key: "acme/user", Zones: []string{"eu-1a", "eu-1b"}, Versions: []string{"v2"}, Counts: Counts{Registered: 3, Drained: 1}},
		{Key: "Shop/Cart", Counts: Counts{Malformed: 1}},
	}}
	for query, want := range map[string]string{
		"":              "acme/order acme/user Shop/Cart",
		"  ":            "acme/order acme/user Shop/Cart",
		"ACME":          "acme/order acme/user",
		"cart":          "Shop/Cart",
		"eu-1b":         "acme/user",
		"acme v1":       "acme/order",
		"acme v1 eu-1b": "",
	} {
		p := newOverview(frame{Fleet: fleet}, query, 1)
		var got []string
		instances := 0
		for _, s := range p.Rows {
			got = append(got, s.Key)
			instances += s.Counts.Total()
		}
		if strings.Join(got, " ") != want || p.Instances != instances || p.Found != len(got) {
			t.Errorf("%q finds %q, %d with %d instances; want %q", query, got, p.Found, p.Instances, want)
		}
	}
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
	s.Instances[1].State, s.Instances[2].State, s.Instances[3].State = survey.Drained, survey.Leaving, Malformed
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
		{survey.Registered, "drain", true}, {survey.Drained, "undrain", true}, {survey.Leaving, "", false}, {Malformed, "", true}, {Expiring, "drain", true},
	} {
		if row := p.Rows[n]; row.State != want.state || row.Action != want.action || row.Known != want.known {
			t.Errorf("row %d: %s, %q, %t; want %+v", n, row.State, row.Action, row.Known, want)
		}
	}
	p.Findings.All = []Finding{{Kind: "a", Where: []string{"k1"}}, {Kind: "b", Where: []string{"k1", "k2"}}, {Kind: "c"}, {Kind: "d", Where: []string{"k204"}}}
	p.placeFindings()
	if len(p.Rows[1].Wrong) != 1 || len(p.Elsewhere) != 3 {
		t.Errorf("%d findings beside the row, %d elsewhere", len(p.Rows[1].Wrong), len(p.Elsewhere))
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

func TestScale(t *testing.T) {
	for want, weights := range map[uint64][]uint32{100: {10, 40}, 1000: {100, 900}, 1<<33 - 2: {1<<32 - 1, 1<<32 - 1}} {
		s := &Service{}
		for _, w := range weights {
			s.Config.Splits = append(s.Config.Splits, Split{Weight: w})
		}
		if got := newServicePage(frame{Fleet: &Fleet{}}, s, url.Values{}).Scale(); got != want {
			t.Errorf("the sliders of %v end at %d, not %d", weights, got, want)
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
		{"written=7", 6, 5, "Written at revision 7.", true}, // it has not come from etcd yet
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

func TestReadEdit(t *testing.T) {
	for name, c := range map[string]struct {
		form url.Values
		want string // "": it is an edit
	}{
		"fine":         {url.Values{"revision": {"7"}, "weight": {"1", " 2 "}}, ""},
		"no revision":  {url.Values{}, "which revision"},
		"below zero":   {url.Values{"revision": {"-1"}}, "which revision"},
		"no weight":    {url.Values{"revision": {"7"}, "weight": {""}}, "is no weight"},
		"half a share": {url.Values{"revision": {"7"}, "weight": {"0.5"}}, "is no weight"},
	} {
		_, err := readEdit(c.form.Get, c.form)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
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
