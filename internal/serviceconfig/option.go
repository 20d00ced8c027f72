package serviceconfig

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"unicode"
)

// An Option describes a field of the policy "etcd". Clients use it to find options that exclude each other, the generator to find the
// fields of LoadBalancing that are options, etcdrpc to explain a policy, and docs/traffic.md to list the fields of a live config.
type Option struct {
	// Name is the JSON name of the field in Etcd, and in snake case the field of LoadBalancing in options.proto.
	Name     string
	LiveOnly bool // proto files have no such field
	Own      bool // works only with policies of [Ours], which implement the option
	// Needs names the option without which this option has no effect.
	Needs string
	// NotBeside lists policies of [Ours] with which the option has no effect.
	NotBeside []string
	// Note explains the effect on calls to operators who look at the shares of instances; %s is the value.
	Note string
	Of   func(Caller) bool // whether the note applies to a caller; nil if it applies to all
}

// Caller describes the caller whose calls are explained.
type Caller struct {
	Lane string `json:"lane"`
	Zone string `json:"zone"`
}

func (c Caller) inZone() bool      { return c.Zone != "" }
func (c Caller) withoutZone() bool { return c.Zone == "" }
func (c Caller) withoutLane() bool { return c.Lane == "" }

// Options are the options of the policy "etcd", one for each field of [Etcd]. A new option needs a
// row here, a field in Etcd and in LoadBalancing of options.proto, and an implementation.
var Options = []Option{
	{Name: splitField, LiveOnly: true, Own: true},
	{
		Name: "preferZone", Own: true,
		Note: "These are the shares of a client without a zone; others prefer the instances of their own.", Of: Caller.withoutZone,
	},
	{
		Name: "zoneMinPercent", Own: true, Needs: "preferZone", NotBeside: []string{PickFirstName, RingHashName},
		Note: "While less than %s % of the zone's instances are ready, calls go to other zones in proportion to what is missing.", Of: Caller.inZone,
	},
	{
		Name: "subset", Own: true,
		Note: "Each client uses %s instances of a set, different ones in each process; the shares are those over many clients.",
	},
	{
		Name: "slowStart", Own: true, NotBeside: []string{PickFirstName, LeastRequestName, RingHashName},
		Note: "An instance that has just started has less: its share grows for %s.",
	},
	{
		Name: routeField, Own: true,
		Note: "These are the shares of calls without a lane.", Of: Caller.withoutLane,
	},
	{Name: "laneHeader", Own: true, Needs: routeField},
	{
		Name: "maxConcurrentRequests", Own: true, NotBeside: []string{PickFirstName},
		Note: "While a client has %s calls under way at an instance, its calls go to others.",
	},
	{
		Name: "minHealthyPercent",
		Note: "A drain is followed while it leaves at least %s % of the instances, or of those in no lane where there are lanes.",
	},
	{Name: drainField, LiveOnly: true},
	{Name: childField, LiveOnly: true},
}

// field returns the option's field of Etcd.
func (o *Option) field() reflect.StructField {
	f, _ := reflect.TypeFor[Etcd]().FieldByName(strings.ToUpper(o.Name[:1]) + o.Name[1:])
	return f
}

func (o *Option) value(e *Etcd) reflect.Value {
	return reflect.ValueOf(e).Elem().FieldByIndex(o.field().Index)
}

func (o *Option) isSet(e *Etcd) bool { return !o.value(e).IsZero() }

// OptionNamed returns the option with a JSON name, nil if there is none.
func OptionNamed(name string) *Option {
	if i := slices.IndexFunc(Options, func(o Option) bool { return o.Name == name }); i >= 0 {
		return &Options[i]
	}
	return nil
}

// Proto returns the option's name in proto files.
func (o *Option) Proto() string { return snake(o.Name) }

// snake converts "laneHeader" to "lane_header".
func snake(camel string) string {
	var name strings.Builder
	for i, r := range camel {
		if i > 0 && unicode.IsUpper(r) {
			name.WriteByte('_')
		}
		name.WriteRune(unicode.ToLower(r))
	}
	return name.String()
}

// Rule describes the option in live configs, as Markdown.
func (o *Option) Rule() string {
	rule := fmt.Sprintf("`%s`", o.Name)
	if f := o.field(); f.Type.Kind() == reflect.Uint32 {
		rule += ", " + wantWhole(f.Tag)
	}
	if o.Needs != "" {
		rule += fmt.Sprintf(", only with `%s`", o.Needs)
	}
	var not []string
	for _, policy := range slices.Sorted(maps.Keys(policyRules)) {
		if slices.Contains(policyRules[policy].below, EtcdName) && o.idleBeside(policy) {
			not = append(not, "`"+policy+"`")
		}
	}
	if len(not) > 0 {
		rule += ", not beside " + strings.Join(not, ", ")
	}
	return rule
}

// Notes explains the effects of the options that are set.
func (e *Etcd) Notes(caller Caller) (all []string) {
	for i := range Options {
		if o := &Options[i]; o.Note != "" && o.isSet(e) && (o.Of == nil || o.Of(caller)) {
			all = append(all, strings.ReplaceAll(o.Note, "%s", fmt.Sprint(o.value(e))))
		}
	}
	return all
}

// checkOptions rejects options that have no effect together with the others.
func (e *Etcd) checkOptions(p place) {
	for i := range Options {
		o := &Options[i]
		if !o.isSet(e) {
			continue
		}
		if o.Needs != "" && !OptionNamed(o.Needs).isSet(e) {
			p.in(o.Name).fault("has no effect without %s: set that too", o.Needs)
		}
		for _, child := range e.ChildPolicy {
			switch policy := child.Name; {
			case policy == "" || !o.idleBeside(policy):
			case Ours(policy):
				p.in(o.Name).fault("has no effect with %.80q: leave one of them out", policy)
			default:
				p.in(o.Name).fault("has no effect with %.80q, which replaces the policy \"etcd\": leave it out, or choose a policy of ours such as round_robin", policy)
			}
		}
	}
}

// idleBeside reports whether the option has no effect with a picking policy.
func (o *Option) idleBeside(policy string) bool {
	return o.Own && !Ours(policy) || slices.Contains(o.NotBeside, policy)
}
