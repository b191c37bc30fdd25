"""The real world: the machine's clocks (`clock`) and the pulse of the event loop (`pulse`).

The only package that may read a wall clock; everything else takes `now` as an argument or asks `ports.clock`.
"""
