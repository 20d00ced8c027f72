package main

import (
	"context"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/report"
)

// scenario is one thing to measure.
type scenario struct {
	report.Scenario
	run   func(context.Context, *bench) error
	extra bool // runs by its name alone, for it takes long, or the others say most of it
}

// What a scenario consists of.
type (
	metric = report.Metric
	target = report.Target
)

// described returns what readers are told of the scenarios.
func described() []*report.Scenario {
	var all []*report.Scenario
	for _, s := range scenarios {
		all = append(all, &s.Scenario)
	}
	return all
}

// scenarios are in the order in which they are run and shown.
var scenarios = []*scenario{
	changeScenario,
	sequenceScenario,
	rolloutScenario,
	churnScenario,
	updateScenario,
	coldScenario,
	connsScenario,
	registrationsScenario,
	rpcScenario,
	instancesScenario,
	slowScenario,
	callsScenario,
	joinsScenario,
	startScenario,
	recoveryScenario,
	awayScenario,
	generatorScenario,
	restScenario,
	scaleScenario,
}
