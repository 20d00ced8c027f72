//go:build !race

package walk

// raceDetector says whether the tests run with the race detector.
const raceDetector = false
