//! Typical wrong answers. The head of each has the mistake, and what the check says about it.

pub mod ex03_readiness {
    pub mod always_writable;
    pub mod never_writable;
    pub mod reads_after_eof;
    pub mod reads_into_a_full_buffer;
    pub mod reads_when_empty;
    pub mod stops_writing_at_eof;
}

pub mod ex04_edge {
    pub mod interrupted_is_an_error;
    pub mod reads_once;
    pub mod spins_at_eof;
    pub mod stops_at_a_short_read;
    pub mod swallows_errors;
}

pub mod ex05_slab {
    pub mod constant_generation;
    pub mod no_generation;
    pub mod put_back_unchecked;
    pub mod raises_the_generation_in_insert;
    pub mod raises_the_generation_in_take_out;
    pub mod remove_unchecked;
    pub mod removes_only_what_is_there;
    pub mod slot_without_an_entry_is_free;
}

pub mod ex06_budget {
    pub mod calls_twice;
    pub mod forgets_the_rest;
    pub mod goes_on_in_the_same_turn;
    pub mod no_budget;
    pub mod polls_once_more;
    pub mod sleeps_on_the_queue;
}

pub mod ex07_backpressure {
    pub mod drops_what_is_too_much;
    pub mod forgets_the_event;
    pub mod marks_at_events_only;
    pub mod never_resumes;
    pub mod no_marks;
    pub mod one_mark;
    pub mod pause_clears_the_bit;
    pub mod pauses_both;
    pub mod resumes_when_empty;
}

pub mod ex08_timers {
    pub mod excludes_now;
    pub mod one_message;
    pub mod rounds_down;
    pub mod runs_the_first;
    pub mod sleeps_forever;
    pub mod subtracts;
    pub mod timers_without_end;
    pub mod wakes_every_10_ms;
}

pub mod ex09_stdin {
    pub mod blocks;
    pub mod loses_the_last_line;
    pub mod one_line_for_each_event;
    pub mod opens_descriptor_0;
    pub mod sets_the_shared_flag;
    pub mod takes_a_piece_for_lines;
}

pub mod ex10_protocol {
    pub mod a_piece_is_a_line;
    pub mod aborts_a_long_line;
    pub mod aborts_at_eof;
    pub mod drops_the_rest_at_eof;
    pub mod limits_whole_lines_only;
    pub mod measures_without_the_newline;
    pub mod one_line_of_a_piece;
}

pub mod ex11_futures {
    pub mod forgets_to_wake;
    pub mod keeps_the_first_waker;
    pub mod leaves_no_waker;
    pub mod unlocks_in_between;
    pub mod wakes_before_it_sends;
    pub mod wakes_itself;
}

pub mod ex12_closing {
    pub mod closes_after_the_shutdown;
    pub mod closes_at_would_block;
    pub mod no_budget;
    pub mod no_limit;
    pub mod reads_once;
    pub mod shuts_down_first;
    pub mod waits_at_the_end;
}
