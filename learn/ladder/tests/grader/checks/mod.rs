//! The checks of each stage. A check passes for its own stage and for all later ones.

pub mod early;
pub mod stage_4;
pub mod stage_5;
pub mod stage_6;
pub mod stage_7;
pub mod stage_8;

use super::{Subject, Verdict};

/// A check of one stage.
pub struct Check {
    pub stage: usize,
    pub name: &'static str,
    pub run: fn(&Subject) -> Verdict,
}

impl Check {
    /// Runs the check. A lesson gets the stage and the file.
    pub fn run(&self, subject: &Subject) -> Verdict {
        (self.run)(subject).map_err(|mut lesson| {
            (lesson.stage, lesson.file) = (subject.stage, subject.file());
            lesson
        })
    }
}

/// Lists all checks, and makes one test of each, for example `stage_1::a_client_gets_an_echo`.
#[macro_export]
macro_rules! all_checks {
    ($use:ident) => {
        $use! {
            stage_1, 1, early: {
                a_client_gets_back_what_it_sends,
                the_server_outlives_its_clients,
            }
            stage_2, 2, early: {
                a_silent_client_delays_nobody,
            }
            stage_3, 3, early: {
                many_clients_take_turns,
                a_server_without_work_waits,
                a_signal_does_not_end_the_server,
            }
            stage_4, 4, stage_4: {
                a_request_in_pieces_gets_one_response,
                requests_in_one_piece_get_one_response_each,
                one_event_may_stand_for_many_reads,
                a_signal_may_interrupt_a_read,
                a_client_that_leaves_is_closed,
                a_request_without_end_is_given_up,
            }
            stage_5, 5, stage_5: {
                a_slow_reader_gets_every_byte,
                room_for_more_is_an_event,
                a_client_that_reads_nothing_is_not_read,
                a_slow_reader_delays_nobody,
                a_client_that_ends_its_side_gets_its_responses,
            }
            stage_6, 6, stage_6: {
                a_slow_request_blocks_nobody,
                a_late_result_does_not_reach_the_next_client,
                a_late_result_for_nobody_is_dropped,
                responses_keep_their_order,
            }
            stage_7, 7, stage_7: {
                a_silent_client_is_given_up,
                bytes_of_half_a_request_do_not_count,
                an_active_client_stays,
                a_deadline_does_not_hit_the_next_client,
                bytes_that_came_in_time_count,
                a_client_that_takes_nothing_is_given_up,
            }
            stage_8, 8, stage_8: {
                a_client_with_many_requests_delays_nobody,
                work_that_is_left_needs_no_event,
                an_answered_client_is_not_carried,
                it_works_with_real_sockets,
            }
        }
    };
}

macro_rules! list {
    ($($stage:ident, $number:literal, $module:ident: { $($check:ident,)* })*) => {
        /// All checks, those of the first stage first.
        pub const CHECKS: &[Check] = &[
            $($(Check { stage: $number, name: stringify!($check), run: $module::$check },)*)*
        ];
    };
}

all_checks!(list);
