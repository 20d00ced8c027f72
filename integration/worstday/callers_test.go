package worstday

// callerRows are the operations of callers.
var callerRows = []row{}
