package console

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/policyedit"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// editPage shows the effects of an edit, or why it is rejected.
type editPage struct {
	frame
	Key     string
	Form    url.Values // as it was sent
	Command string     // the command line with the same effect

	// identifies the edit that the reader has seen; "" if none was shown
	Guard string

	Outcome string // whether a rejected edit was written
	Problem string // why the edit is rejected

	// rejected because of the state in etcd, so that a retry is useless
	Refused bool

	Changes     bool
	Warnings    []string
	Diff, Notes []string
}

// edit shows the effects of an edit and, for a POST, writes it.
func (c *Console) edit(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)

	err := r.ParseForm()

	switch {
	case c.readOnly:
		http.Error(w, "Not written: this console was started with --read-only.",
			http.StatusForbidden)
		return

	case err != nil:
		http.Error(w, "Not written: the form cannot be read: "+err.Error(),
			http.StatusBadRequest)
		return
	}

	// Keep the time that the page has shown to the reader.
	entry := policyedit.Signed(time.Now(), 0)
	entry.At = cmp.Or(r.Form.Get("at"), entry.At)
	r.Form.Set("at", entry.At)

	p := editPage{Form: r.Form, Guard: r.Form.Get("guard")}
	k := c.now.Load()
	request, err := c.parseRequest(r.Context(), r.Form, k)
	request.Entry = entry

	var e *policyedit.Edit
	if err == nil {
		e, err = policyedit.Propose(r.Context(), c.store, request)
	}

	if r.Method == http.MethodPost {
		e, err = c.write(r.Context(), p.Guard, e, err)
		if err == nil {
			query := url.Values{
				"key":     {request.Key},
				"written": {fmt.Sprint(e.Written)},
			}

			http.Redirect(w, r, "/service?"+query.Encode(), http.StatusSeeOther)

			return
		}

		p.Outcome = "Not written:"
		if errors.Is(err, store.ErrMaybeWritten) {
			p.Outcome = "Perhaps written:"
		}
	}

	p.frame = c.frame(title(request), k, r)
	p.Still = true
	p.Note = "" // the note is for other pages
	c.show(w, r, p.add(request, e, err), "edit", p)
}

// write writes the edit e if the reader has seen e, or e requires a revision.
// It writes nothing if err, the error of e's proposal, is not nil. After a
// concurrent change, write returns a new proposal.
func (c *Console) write(
	ctx context.Context,
	seen string,
	e *policyedit.Edit,
	err error,
) (*policyedit.Edit, error) {
	if err != nil {
		return e, err
	}

	err = store.ErrChanged
	if e.Revision != nil || seen == guard(e) {
		err = e.Apply(ctx, c.store)
	}

	if err == nil {
		// The next page shows the write, or why the page may be out of date.
		_, _ = c.read(ctx)
	} else if errors.Is(err, store.ErrChanged) {
		now, failed := policyedit.Propose(ctx, c.store, e.Request)
		return now, cmp.Or(failed, err)
	}

	return e, err
}

// guard returns text that identifies the old and the new config of an edit. The
// revision alone is not enough: a restored etcd may reuse a revision.
func guard(e *policyedit.Edit) string {
	return fmt.Sprintf("%d-%s", e.Service.ConfigRevision(),
		digest(e.Key, e.OldText(), e.New))
}

// undo is the kind of an edit that restores the live config from before a
// write.
const undo policyedit.Kind = "undo"

// parseRequest reads a form. After an error, it also returns the fields read so
// far.
func (c *Console) parseRequest(
	ctx context.Context,
	form url.Values,
	k *known,
) (request policyedit.Request, err error) {
	request = policyedit.Request{
		Key:  cmp.Or(form.Get("key"), c.key),
		Kind: policyedit.Kind(form.Get("kind")),
	}
	switch {
	case c.key != "" && request.Key != c.key:
		err = fmt.Errorf("this console serves only %q", c.key)
	case request.Kind.Drains():
		request.Names = form["name"]
		if len(request.Names) == 0 {
			err = errors.New("no instance is chosen: go back, and tick some")
		}

	case request.Kind == undo:
		err = c.undo(ctx, &request, form.Get("undone"))
	case request.Kind != policyedit.Split:
		err = fmt.Errorf("unknown kind of edit %.20q: want drain, undrain, split or undo",
			request.Kind)

	default:
		request.Groups, err = groups(versionsOf(k.Find(request.Key)),
			form.Get("version"), form.Get("percent"))
	}

	return request, err
}

// undo completes the request with the live config from before the write at
// revision written. The edit fails if there was another write since.
func (c *Console) undo(
	ctx context.Context,
	request *policyedit.Request,
	written string,
) error {
	revision, err := strconv.ParseInt(written, 10, 64)
	if err != nil {
		return fmt.Errorf("%.20q is not a revision", written)
	}

	key := store.ConfigOf(request.Key).From
	required := int64(0)

	now, err := c.store.GetAt(ctx, key, revision)
	if now != nil {
		required = revision
	}

	old, failed := c.store.GetAt(ctx, key, revision-1)
	request.Kind = policyedit.Remove
	request.Revision = &required
	request.NoRoutes = true

	if old != nil {
		request.Kind = policyedit.Put
		request.Config = string(old.Value)
	}

	return cmp.Or(err, failed)
}

func group(version string, weight int) serviceconfig.Split {
	return serviceconfig.Split{
		Match:  map[string]string{"version": version},
		Weight: uint32(weight),
	}
}

// groups returns a split that gives a version a percentage of the calls. The
// other versions share the rest in proportion to their instances.
func groups(
	counts map[string]int,
	chosen, percent string,
) (all []serviceconfig.Split, err error) {
	p, err := strconv.Atoi(percent)
	switch {
	case err != nil || p < 0 || p > 100:
		return nil,
			fmt.Errorf("%.20q is not a percentage: want a whole number from 0 to 100",
				percent)

	case counts[chosen] == 0:
		return nil, fmt.Errorf("no instance has the version %.80q", chosen)
	}

	counts = maps.Clone(counts)
	delete(counts, chosen)

	others := 0
	for name := range counts {
		if len(counts) == 1 { // the weights are p and 100-p
			counts[name] = 1
		}

		others += counts[name]
	}

	if others == 0 {
		return nil,
			fmt.Errorf("all instances have the version %.80q: there is nothing to split",
				chosen)
	}

	all = []serviceconfig.Split{group(chosen, p*others)}
	for _, name := range slices.SortedFunc(maps.Keys(counts), inventory.CompareNames) {
		all = append(all, group(name, (100-p)*counts[name]))
	}

	return all, nil
}

// title describes an edit.
func title(request policyedit.Request) string {
	if request.Kind.Drains() {
		kind := string(request.Kind)
		return strings.ToUpper(kind[:1]) + kind[1:] + " " +
			output.Counted(len(request.Names), "instance") + " of " + request.Key
	}

	if request.Kind == policyedit.Split {
		return "Split the calls of " + request.Key
	}

	return "Undo a change of " + request.Key
}

// add adds the effects of an edit to the page, if they are known, and the
// reason if the edit is rejected. It returns the status of the page.
func (p *editPage) add(
	request policyedit.Request,
	e *policyedit.Edit,
	err error,
) (status int) {
	p.Key = request.Key
	status = http.StatusOK

	if err != nil {
		p.Problem = err.Error()
	}

	switch {
	case err == nil:
	case errors.Is(err, store.ErrChanged) && request.Revision != nil:
		status = http.StatusConflict
		p.Problem = "somebody has changed the live config since."
		p.Refused = true

	case errors.Is(err, store.ErrChanged):
		status = http.StatusConflict
		p.Problem = "something has changed since the page was made. Below is what the edit would do now."
	case errors.Is(err, store.ErrDenied):
		status = http.StatusForbidden
	case errors.As(err, new(store.UnansweredError)):
		status = http.StatusServiceUnavailable

	default:
		status = http.StatusUnprocessableEntity
		p.Refused = true
		p.Outcome = cmp.Or(p.Outcome, "Refused:")
	}

	if e == nil || err != nil && e.New == "" { // the edit has no effects to show
		p.Changes = p.Guard != "" || request.Revision != nil
		return status
	}

	p.Guard = guard(e)
	p.Changes = e.Changes()
	p.Command = command(e)

	if !p.Refused {
		p.Warnings = e.Warnings()
		p.Notes = e.Notes
		p.Diff = e.Diff()
	}

	return status
}

// command returns the command line with the same effect, "" if there is none.
func command(e *policyedit.Edit) string {
	if e.Kind.Drains() { // no revision: Do retries a drain after a concurrent change
		return e.Service.Command(string(e.Kind), e.Names...)
	}

	if e.Kind != policyedit.Split {
		return ""
	}

	var args []string
	for _, g := range e.Groups {
		version := g.Match["version"]
		if version == "" {
			return ""
		}

		args = append(args, fmt.Sprintf("%s=%d", version, g.Weight))
	}

	return e.Service.Guarded("policy split", args...)
}
