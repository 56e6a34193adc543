//! A mean, and how sure it is.

/// Student's t for a confidence of 95 % on both sides, by degrees of freedom from 1 on.
const STUDENT: [f64; 10] = [12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23];
/// The same of more of them: at most so much for 11 to 29, and from 30 on.
const STUDENT_TEENS: f64 = 2.20;
const STUDENT_MANY: f64 = 2.04;

/// Figures of one kind (by Welford's method, which loses no precision to large ones).
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured {
    count: u64,
    mean: f64,
    squares: f64,
}

impl Measured {
    pub fn add(&mut self, figure: f64) {
        self.count += 1;
        let off = figure - self.mean;
        self.mean += off / self.count as f64;
        self.squares += off * (figure - self.mean);
    }

    /// The mean; 0 where nothing was measured.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// How far the mean may be off at 95 % confidence, in percent of it; a single figure says nothing.
    pub fn off_percent(&self) -> f64 {
        if self.count < 2 {
            return 100.0;
        }
        if self.mean <= 0.0 {
            return 0.0;
        }
        let freedom = self.count - 1;
        let student = match freedom {
            1..=10 => STUDENT[freedom as usize - 1],
            11..30 => STUDENT_TEENS,
            _ => STUDENT_MANY,
        };
        let deviation = (self.squares / freedom as f64).sqrt();
        100.0 * student * deviation / (self.count as f64).sqrt() / self.mean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(figures: &[f64]) -> Measured {
        let mut measured = Measured::default();
        figures.iter().for_each(|figure| measured.add(*figure));
        measured
    }

    #[test]
    fn a_mean_is_as_sure_as_students_t_says() {
        let measured = of(&[8.0, 10.0, 12.0]);
        assert!((measured.mean() - 10.0).abs() < 1e-9);
        // A deviation of 2 of three figures: 4.30 * 2 / √3.
        assert!((measured.off_percent() - 49.65).abs() < 0.1, "{}", measured.off_percent());
        assert!(of(&[5.0; 20]).off_percent() < 1e-9, "all alike");
        assert!(of(&[5.0]).off_percent() >= 100.0, "one says nothing");
        assert!(of(&[0.0, 0.0]).off_percent() < 1e-9, "no output is none");
    }
}
