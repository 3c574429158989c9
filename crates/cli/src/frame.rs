//! Tables: a frame of lines around cells.

/// Headers in the middle of their cells, the other cells to the right. A row that is shorter than
/// the header leaves its last cells out.
pub fn frame(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let longest = cells
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default();
        longest.max(header[column].len()) + 2
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let rule = |left: &str, cross: &str, right: &str| {
        let bars: Vec<String> = widths.iter().map(|&width| "─".repeat(width)).collect();
        format!("{left}{}{right}\n", bars.join(cross))
    };
    let line = |cells: Vec<String>| format!("│{}│\n", cells.join("│"));
    let middle = |(name, &width): (&&str, &usize)| format!("{name:^width$}");
    let mut text = rule("┌", "┬", "┐");
    text += &line(header.iter().zip(&widths).map(middle).collect());
    text += &rule("├", "┼", "┤");
    for row in rows {
        let right = |(cell, &width): (&String, &usize)| format!(" {cell:>0$} ", width - 2);
        text += &line(row.iter().zip(&widths).map(right).collect());
    }
    text + &rule("└", "┴", "┘")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_as_wide_as_the_widest() {
        let rows = [vec!["1".to_owned(), "long cell".to_owned()]];
        let text = "┌──────┬───────────┐\n\
                    │ HEAD │     B     │\n\
                    ├──────┼───────────┤\n\
                    │    1 │ long cell │\n\
                    └──────┴───────────┘\n";
        assert_eq!(frame(&["HEAD", "B"], &rows), text);
    }
}
