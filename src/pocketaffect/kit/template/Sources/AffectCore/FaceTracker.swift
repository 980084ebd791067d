/// Numbers the faces of one film by the overlap of their boxes.
public struct FaceTracker: Sendable {
    /// The share of two boxes' union from which they are one face.
    public static let leastOverlap = 0.3
    /// Seconds that a face may go unseen; then it is another one.
    public static let longestGap = 1.0

    private struct Track {
        let number: Int
        var box: FaceBox
        var seconds: Double
    }

    private var tracks: [Track] = []
    private var count = 0

    public init() {}

    /// Numbers the faces of the next frame: pairs are made by falling overlap, other faces are new.
    ///
    /// - Parameter seconds: The frame's time, in the film's own count.
    public mutating func follow(_ boxes: [FaceBox], at seconds: Double) -> [Int] {
        tracks.removeAll { seconds - $0.seconds > Self.longestGap }
        var pairs: [(overlap: Double, face: Int, track: Int)] = []
        for (face, box) in boxes.enumerated() {
            for (place, track) in tracks.enumerated() {
                let overlap = track.box.overlap(with: box)
                if overlap >= Self.leastOverlap { pairs.append((overlap, face, place)) }
            }
        }
        // Tracks stand in the order of their numbers, so that their places decide as the numbers do.
        pairs.sort { ($1.overlap, $0.face, $0.track) < ($0.overlap, $1.face, $1.track) }
        var chosen: [Int: Int] = [:]
        var taken: Set<Int> = []
        for pair in pairs where chosen[pair.face] == nil && !taken.contains(pair.track) {
            chosen[pair.face] = pair.track
            taken.insert(pair.track)
        }
        return boxes.enumerated().map { face, box in
            guard let place = chosen[face] else {
                tracks.append(Track(number: count, box: box, seconds: seconds))
                count += 1
                return count - 1
            }
            tracks[place].box = box
            tracks[place].seconds = seconds
            return tracks[place].number
        }
    }
}
