package console

// starters are live configs to begin with. Each is one that clients go by.
var starters = []struct{ Name, Text string }{
	{"round robin", `{
  "loadBalancingConfig": [{"etcd": {"childPolicy": [{"round_robin": {}}]}}]
}`},
	{"least request", `{
  "loadBalancingConfig": [{"etcd": {"childPolicy": [{"least_request_experimental": {"choiceCount": 2}}]}}]
}`},
	{"the caller's zone first", `{
  "loadBalancingConfig": [{"etcd": {"preferZone": true, "childPolicy": [{"round_robin": {}}]}}]
}`},
	{"a canary of 1 %", `{
  "loadBalancingConfig": [{"etcd": {
    "split": [{"match": {"version": "v1"}, "weight": 99}, {"match": {"version": "v2"}, "weight": 1}],
    "childPolicy": [{"round_robin": {}}]
  }}]
}`},
	{"timeouts and retries", `{
  "methodConfig": [{
    "name": [{}],
    "timeout": "5s",
    "retryPolicy": {"maxAttempts": 3, "initialBackoff": "0.1s", "maxBackoff": "1s", "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}
  }]
}`},
}
