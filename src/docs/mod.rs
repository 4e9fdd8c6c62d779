//! Pages for people who use the library or compare it with others. They answer questions that
//! neither the guide nor the documentation of the items answers.
//!
//! | page | what it answers |
//! | --- | --- |
//! | [`asyncio`] | what is the name of an asyncio function here? |
//! | [`styles`] | sockets, protocol or streams: which one, and what does it cost? |
//! | [`performance`] | how fast is it, how was that measured, and what was tried? |
//! | [`platforms`] | what is different or missing on macOS and the BSDs? |
//! | [`trouble`] | what happens when peers, users or the kernel misbehave? |

#[doc = include_str!("asyncio.md")]
pub mod asyncio {}
#[doc = include_str!("performance.md")]
pub mod performance {}
#[doc = include_str!("platforms.md")]
pub mod platforms {}
#[doc = include_str!("styles.md")]
pub mod styles {}
#[doc = include_str!("trouble.md")]
pub mod trouble {}
