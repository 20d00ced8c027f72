package harness

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestLasting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := make(lasting)
		told := 0
		look := func(wrong bool, samples int) {
			for range samples {
				if l.tooLong("it", wrong) {
					told++
				}
				time.Sleep(sampling)
			}
		}
		few := int(keptWithin / sampling)
		look(true, few)
		look(false, 1)
		if look(true, few); told != 0 {
			t.Fatal("what is put right in time is reported")
		}
		if look(true, 3*few); told != 1 {
			t.Fatalf("what is not put right is reported %d times", told)
		}
		look(false, 1)
		if look(true, 2*few); told != 2 {
			t.Fatal("what goes wrong again is not reported")
		}
	})
}
