package endpoint

// reader reads all layouts but home-made JSON.
var reader = Reader{LeaseSuffix: true}
