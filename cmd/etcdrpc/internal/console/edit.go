package console

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/policyedit"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// editPage shows the effects of an edit, or why it is rejected.
type editPage struct {
	frame
	Key, Kind   string
	Names       []string
	Version     string // of a split, as the form sends it
	Percent     string // the version's calls
	Command     string // the command line with the same effect
	Guard       string // identifies the edit that the reader has seen; "" if none was shown
	Problem     string // why the edit was not written
	Refused     bool   // rejected because of the state in etcd, so that a retry is useless
	Changes     bool
	Warnings    []string
	Diff, Notes []string
}

// edit shows the effects of an edit and, for a POST, writes it.
func (c *Console) edit(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	switch err := r.ParseForm(); {
	case c.readOnly:
		http.Error(w, "This console is read-only: it was started with --read-only.", http.StatusForbidden)
		return
	case err != nil:
		http.Error(w, "The form cannot be read: "+err.Error(), http.StatusBadRequest)
		return
	}
	k := c.now.Load()
	request, err := parseRequest(r.Form, k)
	var e *policyedit.Edit
	if err == nil {
		e, err = policyedit.Propose(r.Context(), c.store, request)
	}
	if r.Method == http.MethodPost && err == nil {
		if err = store.ErrChanged; r.Form.Get("guard") == guard(e) { // it is the edit that the reader has seen
			err = e.Apply(r.Context(), c.store)
		}
		if err == nil {
			_, _ = c.read(r.Context()) // so that the next page shows the write, or why it may be out of date
			http.Redirect(w, r, "/service?"+url.Values{"key": {request.Key}, "written": {fmt.Sprint(e.Written)}}.Encode(), http.StatusSeeOther)
			return
		}
		if errors.Is(err, store.ErrChanged) {
			now, failed := policyedit.Propose(r.Context(), c.store, request)
			e, err = now, cmp.Or(failed, err)
		}
	}
	p := editPage{frame: c.frame(title(request), k, r), Guard: r.Form.Get("guard"), Version: r.Form.Get("version"), Percent: r.Form.Get("percent")}
	p.Still, p.Note = true, "" // the note is for other pages
	status := p.add(request, e, err)
	c.show(w, r, status, "edit", p)
}

// guard identifies the old and the new config of an edit. The revision alone does not: a restored etcd may reuse a revision.
func guard(e *policyedit.Edit) string {
	return fmt.Sprintf("%d-%s", e.Service.ConfigRevision(), digest(e.OldText(), e.New))
}

// parseRequest reads a form. After an error, it also returns the fields read so far.
func parseRequest(form url.Values, k *known) (request policyedit.Request, err error) {
	request = policyedit.Request{Key: form.Get("key"), Kind: policyedit.Kind(form.Get("kind"))}
	switch {
	case request.Kind.Drains():
		if request.Names = form["name"]; len(request.Names) == 0 {
			err = errors.New("no instance is chosen: go back, and tick some")
		}
	case request.Kind != policyedit.Split:
		err = fmt.Errorf("unknown kind of edit %.20q: want drain, undrain or split", request.Kind)
	default:
		request.Groups, err = groups(versionsOf(k.Find(request.Key)), form.Get("version"), form.Get("percent"))
	}
	return request, err
}

func group(version string, weight int) serviceconfig.Split {
	return serviceconfig.Split{Match: map[string]string{"version": version}, Weight: uint32(weight)}
}

// groups returns a split that gives a version a percentage of the calls. The other versions share the rest in proportion to their
// instances.
func groups(counts map[string]int, chosen, percent string) (all []serviceconfig.Split, err error) {
	p, err := strconv.Atoi(percent)
	switch {
	case err != nil || p < 0 || p > 100:
		return nil, fmt.Errorf("%.20q is not a percentage: want a whole number from 0 to 100", percent)
	case counts[chosen] == 0:
		return nil, fmt.Errorf("no instance has the version %.80q", chosen)
	}
	counts = maps.Clone(counts)
	delete(counts, chosen)
	others, divisor := 0, 0
	for _, n := range counts {
		others, divisor = others+n, gcd(divisor, n)
	}
	if others == 0 {
		return nil, fmt.Errorf("all instances have the version %.80q: there is nothing to split", chosen)
	}
	all = []serviceconfig.Split{group(chosen, p*others/divisor)} // for two versions: p and 100-p
	for _, name := range slices.SortedFunc(maps.Keys(counts), inventory.CompareNames) {
		all = append(all, group(name, (100-p)*counts[name]/divisor))
	}
	return all, nil
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// title describes an edit.
func title(request policyedit.Request) string {
	if request.Kind.Drains() {
		kind := string(request.Kind)
		return strings.ToUpper(kind[:1]) + kind[1:] + " " + output.Counted(len(request.Names), "instance") + " of " + request.Key
	}
	return "Split the calls of " + request.Key
}

// add adds the effects of an edit to the page, if they are known, and the reason if the edit is rejected. It returns the status
// of the page.
func (p *editPage) add(request policyedit.Request, e *policyedit.Edit, err error) (status int) {
	p.Key, p.Kind, p.Names = request.Key, string(request.Kind), request.Names
	status = http.StatusOK
	switch {
	case err == nil:
	case errors.Is(err, store.ErrChanged):
		status, p.Problem = http.StatusConflict, "Something has changed since the page was made, and nothing was written. Below is what the edit would do now."
	case errors.Is(err, store.ErrDenied):
		status, p.Problem = http.StatusForbidden, err.Error()
	case errors.As(err, new(store.UnansweredError)):
		status, p.Problem = http.StatusServiceUnavailable, err.Error()
	default:
		status, p.Problem, p.Refused = http.StatusUnprocessableEntity, err.Error(), true
	}
	if e == nil || e.New == "" { // the edit has no effects to show
		p.Changes = p.Guard != "" && !p.Refused
		return status
	}
	p.Guard, p.Changes, p.Command = guard(e), e.Changes(), command(e)
	if !p.Refused {
		p.Warnings, p.Notes, p.Diff = e.Warnings(), e.Notes, e.Diff()
	}
	return status
}

// command returns the command line with the same effect, "" if there is none.
func command(e *policyedit.Edit) string {
	if e.Kind.Drains() { // retried after a concurrent change, and so without a revision
		return e.Service.Command(string(e.Kind), e.Names...)
	}
	var args []string
	for _, g := range e.Groups {
		if g.Match["version"] == "" {
			return ""
		}
		args = append(args, fmt.Sprintf("%s=%d", g.Match["version"], g.Weight))
	}
	return e.Service.Guarded("policy split", args...)
}
