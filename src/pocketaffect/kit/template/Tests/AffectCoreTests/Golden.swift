import AffectCore
import Foundation

/// The questions of `golden.json` and the answers of pocketaffect's Python.
struct Golden: Decodable {
    struct Placing: Decodable {
        let box: [Double]
        let vision: [Double]
        let margin: Double
        let image: [Int]
        let square: [Int]?
    }

    struct Crop: Decodable {
        let image: [Int]
        let square: [Int]
        let size: Int
        let pixels: Data
    }

    struct Turn: Decodable {
        let image: [Int]
        let orientation: Int
        let pixels: Data
    }

    struct Answer: Decodable {
        let metadata: [String: String]
        let probabilities: [Double]
        let valenceArousal: [Double]
        let affect: [Double]
        let expression: FaceExpression
        let unsure: Bool
    }

    struct Comparison: Decodable {
        let neutral: [Double]
        let affect: [Double]
        let compared: [Double]
    }

    struct Film: Decodable {
        struct Frame: Decodable {
            let seconds: Double
            let boxes: [[Double]]
            let affects: [[Double]]
            let tracks: [Int]
            let smoothed: [[Double]]
        }

        let timeConstant: Double
        let frames: [Frame]
    }

    struct Listening: Decodable {
        let affect: [Double]
        let recent: [String]
        let songs: [String]
        let scores: [Double]
    }

    let boxes: [Placing]
    let crops: [Crop]
    let turns: [Turn]
    let answers: [Answer]
    let neutral: [Comparison]
    let films: [Film]
    let songs: [Listening]

    static func read() throws -> Golden {
        let file = Bundle.module.url(forResource: "golden", withExtension: "json")!
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(Golden.self, from: Data(contentsOf: file))
    }
}

extension FaceBox {
    init(_ numbers: [Double]) {
        self.init(x: numbers[0], y: numbers[1], width: numbers[2], height: numbers[3])
    }
}

extension Affect {
    /// Eight probabilities, valence and arousal.
    init(_ numbers: [Double]) {
        self.init(probabilities: Array(numbers.prefix(8)), valence: numbers[8], arousal: numbers[9])
    }

    var numbers: [Double] { probabilities + [valence, arousal] }
}

/// The picture of `draw_picture` in Python: rows of red, green and blue.
func drawPicture(width: Int, height: Int) -> [UInt8] {
    var bytes = [UInt8]()
    for y in 0..<height {
        for x in 0..<width {
            let grey = 3 * x + 5 * y + x * y / 8
            for channel in 0..<3 { bytes.append(UInt8((grey + 60 * channel) % 256)) }
        }
    }
    return bytes
}
