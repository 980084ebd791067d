import AffectCore
import SwiftUI

/// Valence to the right, arousal upwards, and the way that the face took lately.
struct AffectPad: View {
    let trail: [Affect]

    var body: some View {
        Canvas { context, size in
            let place = { (affect: Affect) in
                CGPoint(x: (affect.valence + 1) / 2 * size.width, y: (1 - affect.arousal) / 2 * size.height)
            }
            var axes = Path(ellipseIn: CGRect(origin: .zero, size: size))
            axes.move(to: CGPoint(x: 0, y: size.height / 2))
            axes.addLine(to: CGPoint(x: size.width, y: size.height / 2))
            axes.move(to: CGPoint(x: size.width / 2, y: 0))
            axes.addLine(to: CGPoint(x: size.width / 2, y: size.height))
            context.stroke(axes, with: .color(.secondary), lineWidth: 1)
            guard let last = trail.last else { return }
            var way = Path()
            way.addLines(trail.map(place))
            context.stroke(way, with: .color(.accentColor.opacity(0.5)), lineWidth: 3)
            let point = place(last)
            let dot = CGRect(x: point.x - 7, y: point.y - 7, width: 14, height: 14)
            context.fill(Path(ellipseIn: dot), with: .color(.accentColor))
        }
        .frame(width: 150, height: 150)
        .accessibilityLabel("Valence and arousal")
        .accessibilityValue(spoken)
    }

    private var spoken: String {
        guard let last = trail.last else { return "No face" }
        return String(format: "Valence %.1f, arousal %.1f", last.valence, last.arousal)
    }
}
