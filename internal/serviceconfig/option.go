package serviceconfig

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"unicode"
)

// An Option is a field of the policy "etcd". [Options] is all that is said of each: what a live config holds and what a
// proto file says are read by it, generated code and clients have them in [Etcd], etcdrpc explains them by it, and
// docs/options.md is made of it.
type Option struct {
	// Name is the field's in JSON, and in camel case that of LoadBalancing in proto files.
	Name     string
	LiveOnly bool // proto files have no such field
	Own      bool // it asks something of each pick, so that it has an effect beside [Ours] alone
	// Needs names the option without which it has no effect.
	Needs string
	// Beside reports whether it has an effect where a policy picks. Nil: where any does.
	Beside func(policy string) bool
	// Note tells people who look at the shares of instances what it makes of calls; %s is its value.
	Note string
	Of   func(from Caller) bool // whose calls; nil: everyone's
	kind
}

// Caller is whose calls are explained.
type Caller struct {
	Lane string `json:"lane"`
	Zone string `json:"zone"`

	Method string `json:"-"` // as whoever calls it names it; "": one that every instance serves
}

func (c Caller) inZone() bool      { return c.Zone != "" }
func (c Caller) withoutZone() bool { return c.Zone == "" }
func (c Caller) withoutLane() bool { return c.Lane == "" }

// kind is how an option is read and stored.
type kind struct {
	want  string // what it must be, for people; "": what its own page says
	read  func(e *Etcd, v value) error
	value func(e *Etcd) reflect.Value
}

func (k *kind) isSet(e *Etcd) bool { return !k.value(e).IsZero() }

// typed is the kind of an option that is stored where at says.
func typed[T any](at func(e *Etcd) *T, read func(v value) (T, error)) kind {
	return kind{
		read: func(e *Etcd, v value) error {
			x, err := read(v)
			if err == nil || v.proto { // one that is wrong counts as set beside others
				*at(e) = x
			}
			return err
		},
		value: func(e *Etcd) reflect.Value { return reflect.ValueOf(at(e)).Elem() },
	}
}

// count is the kind of a number from 1 to most, which is 0 where it is left out.
func count(at func(e *Etcd) *uint32, most uint32) kind {
	k := typed(at, func(v value) (uint32, error) { return number(v, 1, most) })
	k.want = wantNumber(1, most)
	return k
}

// OptionNamed returns the option of a name in JSON, nil if there is none.
func OptionNamed(name string) *Option {
	if i := slices.IndexFunc(Options, func(o Option) bool { return o.Name == name }); i >= 0 {
		return &Options[i]
	}
	return nil
}

// Proto returns the option's name in proto files.
func (o *Option) Proto() string {
	var name strings.Builder
	for _, r := range o.Name {
		if unicode.IsUpper(r) {
			name.WriteByte('_')
		}
		name.WriteRune(unicode.ToLower(r))
	}
	return name.String()
}

// Rule says what a live config may hold of the option, as Markdown.
func (o *Option) Rule() string {
	rule := fmt.Sprintf("`%s`", o.Name)
	if o.want != "" {
		rule += ", " + o.want
	}
	if o.Needs != "" {
		rule += fmt.Sprintf(", only with `%s`", o.Needs)
	}
	var not []string
	for _, policy := range slices.Sorted(maps.Keys(policyRules)) {
		if slices.Contains(policyRules[policy].below, EtcdName) && (o.Own && !Ours(policy) || o.Beside != nil && !o.Beside(policy)) {
			not = append(not, "`"+policy+"`")
		}
	}
	if len(not) > 0 {
		rule += ", not beside " + strings.Join(not, ", ")
	}
	return rule
}

// Notes say what the options make of calls.
func (e *Etcd) Notes(from Caller) (all []string) {
	for i := range Options {
		if o := &Options[i]; o.Note != "" && o.isSet(e) && (o.Of == nil || o.Of(from)) {
			all = append(all, strings.ReplaceAll(o.Note, "%s", fmt.Sprint(o.value(e))))
		}
	}
	return all
}

// checkEffects refuses options that have no effect beside others.
func (e *Etcd) checkEffects() (err error) {
	for i := range Options {
		o := &Options[i]
		if !o.isSet(e) {
			continue
		}
		if o.Needs != "" && !OptionNamed(o.Needs).isSet(e) {
			err = also(err, in(o.Name, errors.New("has no effect without "+o.Needs+": set that too")))
		} else if policy := o.idleBeside(e.ChildPolicy); policy != "" {
			why := ""
			if !Ours(policy) {
				why = ", which picks by itself"
			}
			err = also(err, in(o.Name, fmt.Errorf("has no effect beside %.80q%s: leave one of them out", policy, why)))
		}
	}
	return err
}

// idleBeside returns the first of policies beside which the option has no effect, "" if there is none.
func (o *Option) idleBeside(policies []Policy) string {
	for _, p := range policies {
		if o.Own && !Ours(p.Name) || o.Beside != nil && !o.Beside(p.Name) {
			return p.Name
		}
	}
	return ""
}
