package modelcheck

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
	"unsafe"
)

// Shape copies states of any type, and computes keys for comparing them. It follows pointers, slices, maps
// and interfaces, also through unexported fields, and keeps the identity of shared pointers. Copies share
// functions and channels, which keys ignore. Of an error, a key has the text.
//
// Only tests use it, on types of this module. It uses unsafe pointers because reflection alone can neither set unexported fields nor copy
// the millions of states of a walk in time. It panics at a value of an unknown kind, such as an unsafe pointer, rather than ignore it.
//
// Two states have the same key if they differ only in the instant, in addresses in memory, and in ignored parts.
type Shape struct {
	// Counted maps fields, "type.field", and types, "package.type", to a group. The core only compares values
	// of a group with each other. So keys have their distances, and which are 0, but not the values.
	Counted map[string]string
	// Ignored lists the fields that keys ignore.
	Ignored []string
	// Old is the age from which all instants count as equal, 0 for none.
	Old time.Duration

	named   map[reflect.Type]func(unsafe.Pointer) string
	forms   map[reflect.Type]*form
	writing *writer
}

// Name makes a state and its copies share the values of the type T, which must be immutable. A key has their names.
func Name[T any](s *Shape, name func(*T) string) {
	if s.named == nil {
		s.named = make(map[reflect.Type]func(unsafe.Pointer) string)
	}
	s.named[reflect.TypeFor[T]()] = func(p unsafe.Pointer) string { return name((*T)(p)) }
}

// form copies and writes the values of one type.
type form struct {
	deepen func(c copied, p unsafe.Pointer)  // makes a shallow copy deep
	write  func(w *writer, p unsafe.Pointer) // writes a value
}

func shallow(copied, unsafe.Pointer) {}

func unwritten(*writer, unsafe.Pointer) {}

// copied maps pointers to the copies of their targets.
type copied map[pointer]unsafe.Pointer

type pointer struct {
	t  reflect.Type
	at unsafe.Pointer
}

// writer collects a key.
type writer struct {
	shape   *Shape
	now     time.Time
	key     []byte
	seen    map[pointer]uint64
	counted map[string][]int64 // the values of each group, in the order of their places in the key
}

// Copy returns a copy of the state at p that shares only immutable parts with it.
func Copy[T any](s *Shape, p *T) *T {
	f := s.form(reflect.TypeFor[T]())
	to := new(T)
	*to = *p
	f.deepen(copied{{reflect.TypeFor[T](), unsafe.Pointer(p)}: unsafe.Pointer(to)}, unsafe.Pointer(to))
	return to
}

// Key returns the key of the state at p, with instants as ages at now.
func Key[T any](s *Shape, p *T, now time.Time) string {
	w := s.writing
	if w == nil {
		w = &writer{shape: s, seen: make(map[pointer]uint64), counted: make(map[string][]int64)}
		s.writing = w
	}
	w.now, w.key = now, w.key[:0]
	clear(w.seen)
	for group, values := range w.counted {
		w.counted[group] = values[:0]
	}
	s.form(reflect.TypeFor[T]()).write(w, unsafe.Pointer(p))
	w.writeCounted()
	return string(w.key)
}

// writeCounted writes the values of each group as distances from the greatest, and 0 as -1.
func (w *writer) writeCounted() {
	for _, group := range slices.Sorted(maps.Keys(w.counted)) {
		values := w.counted[group]
		most := slices.Max(append(values, 0))
		for _, v := range values {
			if v == 0 {
				w.int(-1)
			} else {
				w.int(most - v)
			}
		}
	}
}

func (w *writer) int(n int64) { w.key = binary.AppendVarint(w.key, n) }

func (w *writer) text(s string) {
	w.int(int64(len(s)))
	w.key = append(w.key, s...)
}

// form returns the form of a type, and computes it the first time.
func (s *Shape) form(t reflect.Type) *form {
	if f := s.forms[t]; f != nil {
		return f
	}
	if s.forms == nil {
		s.forms = make(map[reflect.Type]*form)
	}
	f := new(form)
	s.forms[t] = f // before it is complete, for a type may contain itself
	*f = s.formOf(t)
	if group, ok := s.Counted[t.String()]; ok {
		f.write = count(t, group)
	}
	return f
}

func (s *Shape) formOf(t reflect.Type) form {
	if name := s.named[t]; name != nil {
		return form{shallow, func(w *writer, p unsafe.Pointer) { w.text(name(p)) }}
	}
	if t == reflect.TypeFor[time.Time]() {
		return form{shallow, writeTime}
	}
	switch t.Kind() {
	case reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		integer := integerOf(t)
		return form{shallow, func(w *writer, p unsafe.Pointer) { w.int(integer(p)) }}
	case reflect.String:
		return form{shallow, func(w *writer, p unsafe.Pointer) { w.text(*(*string)(p)) }}
	case reflect.Func, reflect.Chan:
		return form{shallow, unwritten}
	case reflect.Pointer:
		return s.pointerForm(t)
	case reflect.Interface:
		return s.interfaceForm(t)
	case reflect.Slice:
		return s.sliceForm(t)
	case reflect.Array:
		return s.arrayForm(t)
	case reflect.Map:
		return s.mapForm(t)
	case reflect.Struct:
		return s.structForm(t)
	default:
		panic(fmt.Sprintf("modelcheck: a state has a %s", t))
	}
}

// integerOf returns a function that reads an integer or a bool.
func integerOf(t reflect.Type) func(unsafe.Pointer) int64 {
	switch t.Size() {
	case 1:
		return func(p unsafe.Pointer) int64 { return int64(*(*uint8)(p)) }
	case 2:
		return func(p unsafe.Pointer) int64 { return int64(*(*uint16)(p)) }
	case 4:
		return func(p unsafe.Pointer) int64 { return int64(*(*int32)(p)) }
	default:
		return func(p unsafe.Pointer) int64 { return *(*int64)(p) }
	}
}

func count(t reflect.Type, group string) func(*writer, unsafe.Pointer) {
	integer := integerOf(t)
	return func(w *writer, p unsafe.Pointer) { w.counted[group] = append(w.counted[group], integer(p)) }
}

func writeTime(w *writer, p unsafe.Pointer) {
	t := *(*time.Time)(p)
	if t.IsZero() {
		w.key = append(w.key, 'z')
		return
	}
	ago := w.now.Sub(t)
	if old := w.shape.Old; old > 0 {
		ago = min(ago, old)
	}
	w.key = append(w.key, 't')
	w.int(int64(ago))
}

func (s *Shape) pointerForm(t reflect.Type) form {
	elem := t.Elem()
	if name := s.named[elem]; name != nil {
		return form{shallow, func(w *writer, p unsafe.Pointer) {
			if to := *(*unsafe.Pointer)(p); to != nil {
				w.text(name(to))
			} else {
				w.int(-1)
			}
		}}
	}
	to := s.form(elem)
	return form{
		deepen: func(c copied, p unsafe.Pointer) { *(*unsafe.Pointer)(p) = c.pointed(elem, to, *(*unsafe.Pointer)(p)) },
		write:  func(w *writer, p unsafe.Pointer) { w.pointed(elem, to, *(*unsafe.Pointer)(p)) },
	}
}

// pointed returns the copy of a pointer's target.
func (c copied) pointed(t reflect.Type, f *form, at unsafe.Pointer) unsafe.Pointer {
	if at == nil {
		return nil
	}
	if made, ok := c[pointer{t, at}]; ok {
		return made
	}
	made := reflect.New(t)
	made.Elem().Set(reflect.NewAt(t, at).Elem())
	to := made.UnsafePointer()
	c[pointer{t, at}] = to
	f.deepen(c, to)
	return to
}

// pointed writes a pointer's target the first time, and later its number.
func (w *writer) pointed(t reflect.Type, f *form, at unsafe.Pointer) {
	if at == nil {
		w.int(0)
		return
	}
	if n, ok := w.seen[pointer{t, at}]; ok {
		w.int(int64(n))
		return
	}
	w.seen[pointer{t, at}] = uint64(len(w.seen) + 1)
	w.int(-1)
	f.write(w, at)
}

func (s *Shape) interfaceForm(t reflect.Type) form {
	if t == reflect.TypeFor[error]() {
		return form{shallow, func(w *writer, p unsafe.Pointer) {
			if err := *(*error)(p); err != nil {
				w.text(err.Error())
			} else {
				w.int(-1)
			}
		}}
	}
	return form{
		deepen: func(c copied, p unsafe.Pointer) {
			v := reflect.NewAt(t, p).Elem()
			if v.IsNil() {
				return
			}
			made := reflect.New(v.Elem().Type())
			made.Elem().Set(v.Elem())
			s.form(v.Elem().Type()).deepen(c, made.UnsafePointer())
			v.Set(made.Elem())
		},
		write: func(w *writer, p unsafe.Pointer) {
			v := reflect.NewAt(t, p).Elem()
			if v.IsNil() {
				w.int(0)
				return
			}
			held := v.Elem()
			w.text(held.Type().String())
			made := reflect.New(held.Type())
			made.Elem().Set(held)
			s.form(held.Type()).write(w, made.UnsafePointer())
		},
	}
}

// sliceHeader is the memory layout of a slice.
type sliceHeader struct {
	data     unsafe.Pointer
	len, cap int
}

func (s *Shape) sliceForm(t reflect.Type) form {
	elem, size := t.Elem(), t.Elem().Size()
	of := s.form(elem)
	return form{
		deepen: func(c copied, p unsafe.Pointer) {
			h := (*sliceHeader)(p)
			if h.len == 0 {
				h.cap = 0 // an append must not write into the original
				return
			}
			from := reflect.NewAt(t, p).Elem()
			made := reflect.MakeSlice(t, h.len, h.len)
			reflect.Copy(made, from)
			from.Set(made)
			for i := range h.len {
				of.deepen(c, unsafe.Add(h.data, uintptr(i)*size))
			}
		},
		write: func(w *writer, p unsafe.Pointer) {
			h := (*sliceHeader)(p)
			w.int(int64(h.len))
			for i := range h.len {
				of.write(w, unsafe.Add(h.data, uintptr(i)*size))
			}
		},
	}
}

func (s *Shape) arrayForm(t reflect.Type) form {
	of, size := s.form(t.Elem()), t.Elem().Size()
	each := func(p unsafe.Pointer, do func(unsafe.Pointer)) {
		for i := range t.Len() {
			do(unsafe.Add(p, uintptr(i)*size))
		}
	}
	return form{
		deepen: func(c copied, p unsafe.Pointer) { each(p, func(p unsafe.Pointer) { of.deepen(c, p) }) },
		write:  func(w *writer, p unsafe.Pointer) { each(p, func(p unsafe.Pointer) { of.write(w, p) }) },
	}
}

// mapForm is for maps with keys that are compared by value, not by their targets.
func (s *Shape) mapForm(t reflect.Type) form {
	key, elem := t.Key(), t.Elem()
	keys, elems := s.form(key), s.form(elem)
	return form{
		deepen: func(c copied, p unsafe.Pointer) {
			m := reflect.NewAt(t, p).Elem()
			if m.IsNil() {
				return
			}
			made := reflect.MakeMapWithSize(t, m.Len())
			for it := m.MapRange(); it.Next(); {
				v := reflect.New(elem)
				v.Elem().Set(it.Value())
				elems.deepen(c, v.UnsafePointer())
				made.SetMapIndex(it.Key(), v.Elem())
			}
			m.Set(made)
		},
		write: func(w *writer, p unsafe.Pointer) {
			m := reflect.NewAt(t, p).Elem()
			w.int(int64(m.Len()))
			all := m.MapKeys()
			slices.SortFunc(all, compareKeys)
			for _, k := range all {
				at, value := reflect.New(key), reflect.New(elem)
				at.Elem().Set(k)
				value.Elem().Set(m.MapIndex(k))
				keys.write(w, at.UnsafePointer())
				elems.write(w, value.UnsafePointer())
			}
		},
	}
}

// compareKeys orders the keys of a map.
func compareKeys(a, b reflect.Value) int {
	switch {
	case a.Kind() == reflect.String:
		return cmp.Compare(a.String(), b.String())
	case a.CanInt():
		return cmp.Compare(a.Int(), b.Int())
	case a.CanUint():
		return cmp.Compare(a.Uint(), b.Uint())
	case a.Kind() == reflect.Struct:
		return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b))
	}
	panic(fmt.Sprintf("modelcheck: a state has a map by %s", a.Type()))
}

func (s *Shape) structForm(t reflect.Type) form {
	type part struct {
		offset uintptr
		form   *form
	}
	var deep, written []part
	name, _, _ := strings.Cut(t.Name(), "[") // the name of a generic type, without arguments
	for i := range t.NumField() {
		field := t.Field(i)
		of := s.form(field.Type)
		deep = append(deep, part{field.Offset, of})
		full := name + "." + field.Name
		if group, ok := s.Counted[full]; ok {
			of = &form{shallow, count(field.Type, group)}
		}
		if !slices.Contains(s.Ignored, full) {
			written = append(written, part{field.Offset, of})
		}
	}
	return form{
		deepen: func(c copied, p unsafe.Pointer) {
			for _, part := range deep {
				part.form.deepen(c, unsafe.Add(p, part.offset))
			}
		},
		write: func(w *writer, p unsafe.Pointer) {
			for _, part := range written {
				part.form.write(w, unsafe.Add(p, part.offset))
			}
		},
	}
}
