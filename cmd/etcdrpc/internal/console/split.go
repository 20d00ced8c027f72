package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// steps are the shares in percent by which a canary usually grows.
var steps = []int{1, 5, 10, 25, 50}

type splitField struct {
	Split
	Percent string // as it is, or as it was typed
}

// Fields returns what a form has of the split of a service.
func (c *Config) Fields() []splitField { return splitFields(c.Splits, nil) }

// Fields returns what a form has of a split that was typed.
func (p *confirmPage) Fields() []splitField { return splitFields(Shared(p.Groups), p.Weights) }

func splitFields(splits []Split, typed []string) (all []splitField) {
	for n, s := range splits {
		f := splitField{s, percentText(s.Percent)}
		if n < len(typed) {
			f.Percent = typed[n]
		}
		all = append(all, f)
	}
	return all
}

// Canary returns which group of a split steps move.
func (c *Config) Canary() int { return canary(c.Splits) }

// percentText returns a share in percent with two decimals at most.
func percentText(percent float64) string {
	return strconv.FormatFloat(math.Round(100*percent)/100, 'f', -1, 64)
}

var errWeights = errors.New("the form has not as many weights as groups: load the page again")

// readGroups reads the groups of a split with their shares, which are weights in the end. The groups are returned even if the
// shares cannot be read.
func readGroups(matches, shares []string, step string) ([]serviceconfig.Split, error) {
	groups := make([]serviceconfig.Split, len(matches))
	for n, match := range matches {
		if err := json.Unmarshal([]byte(match), &groups[n].Match); err != nil {
			return nil, fmt.Errorf("the group %.60q cannot be read: load the page again", match)
		}
	}
	weights, err := readWeights(shares, step)
	switch {
	case err != nil || len(groups) == 0:
		return groups, err
	case len(groups) != len(weights):
		return groups, errWeights
	}
	for n := range groups {
		groups[n].Weight = weights[n]
	}
	return groups, nil
}

// readWeights reads the shares of a split, which are weights in the end, and the step "group:percent" that is taken with
// them; "": none.
func readWeights(typed []string, step string) ([]uint32, error) {
	shares := make([]float64, len(typed))
	for n, text := range typed {
		share, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		if err != nil || share < 0 || share > math.MaxUint32 || math.IsNaN(share) {
			return nil, fmt.Errorf("%.40q is not a share of the calls: want a number from 0 on, such as 12.5", text)
		}
		shares[n] = share
	}
	if step != "" {
		group, percent, _ := strings.Cut(step, ":")
		n, err := strconv.Atoi(group)
		to, errTo := strconv.ParseFloat(percent, 64)
		if err != nil || errTo != nil || n < 0 || n >= len(shares) || to < 0 || to > 100 {
			return nil, httpError{http.StatusBadRequest, fmt.Sprintf("%.40q is not a step of this split: load the page again", step)}
		}
		link(shares, n, to)
	}
	return weightsOf(shares)
}

// link gives a group a share in percent. The others have the rest, in the proportion that they had.
func link(shares []float64, n int, percent float64) {
	others := -shares[n]
	for _, share := range shares {
		others += share
	}
	for i := range shares {
		switch {
		case i == n:
			shares[i] = percent
		case others > 0:
			shares[i] *= (100 - percent) / others
		default:
			shares[i] = (100 - percent) / float64(len(shares)-1)
		}
	}
}

// weightsOf returns weights in the proportion of shares: these themselves where they are whole numbers.
func weightsOf(shares []float64) ([]uint32, error) {
	scale := 1.0
	if slices.ContainsFunc(shares, func(share float64) bool { return share != math.Trunc(share) }) {
		scale = 100
	}
	weights := make([]uint32, len(shares))
	for n, share := range shares {
		weight := math.Round(share * scale)
		if weight > math.MaxUint32 {
			return nil, fmt.Errorf("%v is too large for a share of the calls", share)
		}
		weights[n] = uint32(weight)
	}
	return weights, nil
}

// matchText returns the match of a group as people write it. It is JSON, which names the group without doubt.
func matchText(match map[string]string) (string, error) {
	text, err := output.Marshal(match, "")
	return string(text), err
}

// matchWords returns the match of a group for people: "version v1.8.2".
func matchWords(match map[string]string) string {
	if len(match) == 0 {
		return "{}"
	}
	var words []string
	for _, name := range slices.Sorted(maps.Keys(match)) {
		words = append(words, name+" "+match[name])
	}
	return strings.Join(words, " and ")
}
