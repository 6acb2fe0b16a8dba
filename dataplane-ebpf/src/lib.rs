//! Empty: aya-build needs a library target.
#![no_std]
