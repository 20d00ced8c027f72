package balancer

// makePlan leaves out what a connection may not call, and divides the rest by lane. With route, it is the order of passes
// from the entries of a key to a pick. Package discovery has merged and held them; then come drain, selector, lane, methods,
// split, zone, subset, and the way of picking.
func makePlan(in *input) *plan {
	p := &plan{in: in, instead: in.nothing()}
	p.sequence.Shuffle()
	if p.instead != nil {
		return p
	}
	if in.config.way != nil {
		p.traits = in.config.way.Traits()
		p.traits.Counts = p.traits.Counts || in.config.MaxConcurrentRequests > 0
	}
	p.placed = in.placeInLanes()
	p.endpoints = p.selectFrom(p.drain(in.endpoints))
	if p.instead != nil {
		return p
	}
	p.differ = p.methodsDiffer()
	p.divideByLane()
	p.reportSplit()
	p.reportTwins()
	return p
}
