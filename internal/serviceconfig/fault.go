package serviceconfig

import "errors"

// Fault is what is wrong at one place in a config, such as "methodConfig[2].timeout".
type Fault struct {
	Path []string // names of fields, and indices and keys in brackets
	Err  error
}

func (f *Fault) Error() string {
	path := ""
	for i, step := range f.Path {
		if i > 0 && step[0] != '[' {
			path += "."
		}
		path += step
	}
	return path + ": " + f.Err.Error()
}

func (f *Fault) Unwrap() error { return f.Err }

// faults are all that is wrong. Their text is that of the first.
type faults []*Fault

func (f faults) Error() string { return f[0].Error() }

// faultsIn returns the faults of an error, none of nil.
func faultsIn(err error) (all faults) {
	if err != nil && !errors.As(err, &all) {
		all = faults{{Err: err}}
	}
	return all
}

// also returns both of two errors, either of which may be nil.
func also(a, b error) error {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return append(faultsIn(a), faultsIn(b)...)
}

// in puts the name of a field, or an index, before the paths of err.
func in(step string, err error) error {
	if err == nil {
		return nil
	}
	all := faultsIn(err)
	for i, f := range all {
		all[i] = &Fault{append([]string{step}, f.Path...), f.Err}
	}
	return all
}
