package time

import "syscall"

// implemented in package runtime
func setSkew(rate int64, stands bool)
func jumpWall(d int64)

func init() {
	text, _ := syscall.Getenv("CLOCK_RATE")
	rate, err := atoi(text)
	if text == "" || err != nil {
		rate = 1000
	}

	_, stands := syscall.Getenv("CLOCK_STANDS")
	setSkew(int64(rate), stands)
}

// Jump sets the wall clock of this process.
func Jump(d Duration) {
	jumpWall(int64(d))
}
