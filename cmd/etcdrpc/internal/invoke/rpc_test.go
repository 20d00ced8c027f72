package invoke

import (
	"encoding/json"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// A detail of an error is shown, or told as bytes where its Anys are in one another too deep to be decoded.
func TestNestedDetails(t *testing.T) {
	for levels, shown := range map[int]bool{maxNesting - 2: true, 1000: false} {
		const name = "type.googleapis.com/google.protobuf.Any"
		detail := &anypb.Any{TypeUrl: name}
		for range levels - 1 {
			raw, err := proto.Marshal(detail)
			if err != nil {
				t.Fatal(err)
			}
			detail = &anypb.Any{TypeUrl: name, Value: raw}
		}
		var got struct {
			Type  string `json:"@type"`
			Value any
		}
		if err := json.Unmarshal(new(RPC).detail(detail), &got); err != nil {
			t.Fatal(err)
		}
		if _, object := got.Value.(map[string]any); object != shown || got.Type != name {
			t.Errorf("%d levels are shown as %T of %s", levels, got.Value, got.Type)
		}
	}
}
