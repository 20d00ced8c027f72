//go:build race

package coretest

// raceDetector says whether the tests run with the race detector.
const raceDetector = true
