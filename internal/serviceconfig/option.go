package serviceconfig

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// An Option describes a field of the policy "etcd". Clients and the generator
// use it to find options without effect. The generator also uses it to find the
// fields of LoadBalancing that are options.
type Option struct {
	// the JSON name of the field in Etcd, and in LoadBalancing of options.proto
	Name string

	LiveOnly bool // proto files have no such field

	// Needs names the option without which this option has no effect.
	Needs string

	// NotBeside lists policies of [Picking] with which the option has no
	// effect.
	NotBeside []string
}

// Options are the options of the policy "etcd", one for each field of [Etcd]. A
// new option needs a row here, a field in Etcd and in LoadBalancing of
// options.proto, and an implementation.
var Options = []Option{
	{Name: splitField, LiveOnly: true},
	{Name: "preferZone"},
	{
		Name:      "zoneMinPercent",
		Needs:     "preferZone",
		NotBeside: []string{PickFirstName, RingHashName},
	},
	{Name: "subset"},
	{
		Name:      "slowStart",
		NotBeside: []string{PickFirstName, LeastRequestName, RingHashName},
	},
	{Name: routeField},
	{Name: "laneHeader", Needs: routeField},
	{Name: "maxConcurrentRequests", NotBeside: []string{PickFirstName}},
	{Name: "minHealthyPercent"},
	{Name: drainField, LiveOnly: true},
	{Name: childField, LiveOnly: true},
}

// field returns the option's field.
func (o *Option) field(e *Etcd) reflect.Value {
	return reflect.ValueOf(e).Elem().FieldByName(strings.ToUpper(o.Name[:1]) + o.Name[1:])
}

// isSet reports whether the option's field is set.
func (o *Option) isSet(e *Etcd) bool {
	return !o.field(e).IsZero()
}

// OptionNamed returns the option with a JSON name, nil if there is none.
func OptionNamed(name string) *Option {
	i := slices.IndexFunc(Options, func(o Option) bool { return o.Name == name })
	if i >= 0 {
		return &Options[i]
	}

	return nil
}

// useless calls visit, with the reason, for each option that has no effect
// together with the other options. It visits no option of an overlay, because
// the configs below the overlay may set the needed options.
func (e *Etcd) useless(visit func(o *Option, why string)) {
	for i := range Options {
		o := &Options[i]
		if !o.isSet(e) || e.ChildPolicy == nil {
			continue
		}

		if o.Needs != "" && !OptionNamed(o.Needs).isSet(e) {
			visit(o, fmt.Sprintf("has no effect without %s: set that too", o.Needs))
		}

		for _, child := range e.ChildPolicy {
			if slices.Contains(o.NotBeside, child.Name) {
				visit(o, fmt.Sprintf("has no effect with %.80q: leave one of them out",
					child.Name))
			}
		}
	}
}

// DropUseless unsets the options that have no effect together with the other
// options, and returns the reasons. A config that is merged with an overlay may
// have such options, although each layer is valid.
func (e *Etcd) DropUseless() (dropped []string) {
	e.useless(func(o *Option, why string) {
		dropped = append(dropped, o.Name+" "+why)
		o.field(e).SetZero()
	})

	return dropped
}
