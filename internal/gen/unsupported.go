package gen

// checkSupported notes valid options that the runtime has nothing for yet.
func checkSupported(s *service) {
	lb := s.options.GetLoadBalancing()
	at := s.option.in("load_balancing")
	if lb.GetWeighted() != nil {
		at.in("weighted").problem("is not supported yet: name another policy, or none")
	}
	if lb.GetOutlierDetection() != nil {
		at.in("outlier_detection").problem("is not supported yet: leave it out")
	}
	if lb.GetPreferZone() {
		at.in("prefer_zone").problem("is not supported yet: leave it out")
	}
	for _, m := range s.methods {
		if m.options.GetAffinity() != "" {
			m.option.in("affinity").problem("is not supported yet: leave it out")
		}
	}
}
