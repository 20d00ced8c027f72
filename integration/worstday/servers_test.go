package worstday

// serverRows are the operations of servers.
var serverRows = []row{{name: "trivial", run: func(c *cell) { c.client(); c.meet(); <-c.over; c.figure("met %q", c.fault.name) }}}
