package output

import (
	"fmt"
	"slices"
	"strings"
)

// Format is how a command writes what it has to say. It is a pflag.Value.
type Format string

// The formats.
const (
	FormatTable Format = "table"
	FormatJSON  Format = "json"
)

// Formats are the names of all formats.
var Formats = []string{string(FormatTable), string(FormatJSON)}

// String is part of pflag.Value.
func (f *Format) String() string { return string(*f) }

// Type is part of pflag.Value.
func (f *Format) Type() string { return "format" }

// Set is part of pflag.Value.
func (f *Format) Set(text string) error {
	if !slices.Contains(Formats, text) {
		return fmt.Errorf("want %s", strings.Join(Formats, " or "))
	}
	*f = Format(text)
	return nil
}
